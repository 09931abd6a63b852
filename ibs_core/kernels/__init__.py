"""Compiled kernels: one file an indicator, each a state record and a ``step``."""
