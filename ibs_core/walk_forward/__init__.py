"""Walk-forward: parameters chosen on training sessions alone, traded on the sessions that follow, window after window.

What is chosen sees no bar after its training sessions: the data are cut there before they are read.
"""
