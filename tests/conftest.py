"""Every run draws the same examples, so that a failure anywhere is a failure everywhere; none keeps bars."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("ci")

os.environ["IBS_CACHE_BYTES"] = (
    "0"  # also of processes that tests start; tests of the cache give it room
)
