"""Every run draws the same examples, so that a failure anywhere is a failure everywhere."""

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("ci")
