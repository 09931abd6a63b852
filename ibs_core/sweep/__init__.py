"""Sweeps: many settings over the same bars, each at the price of its decisions alone.

Bars and feature rows are made once and shared; a candidate costs its gates, its decisions and its equity. Its
trades are those of a back-test with the same settings, bit for bit.
"""
