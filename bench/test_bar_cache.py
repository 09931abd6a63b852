"""The back-test again over bars that it keeps: other parameters in a warm process, and the whole command."""

from __future__ import annotations

import itertools

import pytest
from test_backtest import imports, run
from timing import against_loop, in_turn

from ibs_core.backtest import trade
from ibs_core.bar_cache import Shelf
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.market_data import open_bars


def settings_of(upper):
    return load_settings(
        overrides={"strategy": {"entry": {"ibs": [0.0, upper]}, "exits": {"bars": 7}}}
    )


def test_ten_years_of_twelve_symbols_again(benchmark, record, ten_years, tmp_path):
    contracts = load_contract_map()
    shelf = Shelf(tmp_path, room=4 << 30, tell=pytest.fail)
    uppers = itertools.cycle((0.2, 0.19, 0.21, 0.18))

    def again():
        source = open_bars([ten_years], contracts)
        return trade(source, settings_of(next(uppers)), contracts, shelf=shelf).trades()

    again()  # the bars are kept
    kept = sum(each.n_bytes for each in shelf.held())
    ours, loop = against_loop(benchmark, again, rounds=20)
    assert sum(each.n_bytes for each in shelf.held()) == kept > 0
    record("cached-decade", ours, loop)
    record("kept", kept / 1e6)


def test_the_whole_command_again(benchmark, record, ten_years, tmp_path):
    words = ("backtest", "--parquet", ten_years, "--out", tmp_path, "--no-report", "--quiet")
    cached, bare = in_turn(benchmark, lambda: run(*words, IBS_CACHE_BYTES=""), imports, rounds=5)
    record("cached-command", cached, bare)
