"""Where the real market data lie, beside the repository and never in it; tests skip without them."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("IBS_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real market data are not here")
