"""IBS: back-test and live trading of the internal-bar-strength edge from one set of kernels."""

__version__ = "0.1.0"
