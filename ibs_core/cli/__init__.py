"""The command line: parse, wire, run; the composition root."""
