"""A second run over the same data, with other parameters, against the first."""

from __future__ import annotations

from conftest import in_process, tell

RATIO = 0.15  # of the processor time of a run that reads; the aim is 80 ms
_TWICE = """
import json, sys, time
from pathlib import Path
from ibs_core.backtest import trade
from ibs_core.bar_cache import Shelf
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars

contracts, settings = load_contract_map(), load_settings()
other = load_settings(overrides={"strategy": {"entry": {"ibs": [0.0, 0.19]}, "exits": {"bars": 7}}})
shelf = Shelf(Path(sys.argv[2]), room=1 << 32, tell=print)

def seconds(settings, shelf):
    before = time.process_time()
    trades = trade(open_bars([sys.argv[1]], contracts), settings, contracts, shelf=shelf).trades()
    return time.process_time() - before, trades.height

seconds(settings, shelf)
seconds(settings, shelf)
print(json.dumps({
    "reading": min(seconds(settings, None) for _ in range(3)),
    "kept": min(seconds(settings, shelf) for _ in range(15)),
    "other": min(seconds(other, shelf) for _ in range(15)),
    "bytes": sum(each.n_bytes for each in shelf.held()),
}))
"""


def test_ten_years_again(benchmark, ten_years, tmp_path, capsys):
    found = in_process(_TWICE, ten_years, tmp_path)
    reading, kept, other = (found[name][0] for name in ("reading", "kept", "other"))
    benchmark.extra_info.update(reading_s=reading, kept_s=kept, other_s=other)
    benchmark.pedantic(lambda: None, rounds=1)
    tell(
        capsys,
        f"41 M minutes again, processor time: {kept * 1e3:.0f} ms, with other parameters {other * 1e3:.0f} ms and "
        f"{found['other'][1]:,} trades; reading {reading:.2f} s; {found['bytes'] / 1e6:.0f} MB kept",
    )
    assert max(kept, other) / reading <= RATIO
