"""Adapters: everything that touches a vendor, a socket, a file or a clock on behalf of the core."""

__project__ = "ibs"
