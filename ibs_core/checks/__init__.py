"""What a user can prove of a run on any data: that it sees no later bar, and how much history it needs.

`pictures` takes what a run says, instant by instant; `lookahead` compares pictures of cut data with one of
all data, `time_laws` looks at one picture alone; `warmup` looks for the shortest history that suffices.
"""
