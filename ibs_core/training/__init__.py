"""From labelled candidates to a judged bundle: chosen inside, judged outside, and the holdout looked at once.

The procedure that makes a model (features, hyper-parameters, threshold, forest) sees only the rows that it is
given. A combinatorial purged cross-validation runs the whole of it on the training part of each split and
judges what it made on the test part; then it runs once on all rows before the holdout, and that is the
model that trades.
"""
