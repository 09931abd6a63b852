"""Leaks are planted and must be found and named; the engine as it is must raise no alarm."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from ibs_core import feeds, one_pass, reading
from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.checks.lookahead import check, choose_cuts, count_compared, refuse
from ibs_core.checks.pictures import EnginePictures, Table
from ibs_core.cli.main import run
from ibs_core.config import load_settings
from ibs_core.contracts import load_contract_map
from ibs_core.errors import ConfigError, DataError
from ibs_core.market_data import HeldBars, hold, open_bars
from ibs_core.portfolio import ENTRY, TAKEN
from ibs_core.research.sample_data import write_sample

CONTRACTS = load_contract_map()
NAMES = [
    "bar_ibs",
    "bar_price_z",
    "bar_ema20_above",
    "day_ibs",
    "day_rsi2",
    "x_nq_bar_ret",
    "bar_pair_z",
]
SPARSE_FILTERS = """
strategy:
  entry: {windows: [], pivots: none, ibs: [0.0, 0.5]}
  filters: {bar_pair_ibs: [0, 1], x_cl_bar_ret: [-9, 9], day_ibs: [0, 1], day_pair_ibs: [0, 1]}
symbols: {ES: {}, NQ: {}}
"""
PROTECTIVE = """
strategy:
  entry: {windows: [], ibs: [0.0, 0.4], pivots: higher_high}
  exits: {flat_by: null, protective: {stop: {percent: 0.3}, target: {atr: 1.0}}}
symbols: {ES: {execute: MES, quantity: 3}, NQ: {execute: MNQ}}
"""
LIMITS = """
strategy: {entry: {windows: [], ibs: [0.0, 0.5], pivots: none}}
risk: {max_positions: 2, daily_loss_usd: 900, max_orders_per_minute: 1, no_entry_before_close: 75m}
symbols:
  ES: {}
  NQ: {strategy: {signal_bar: 4h}}
  CL: {strategy: {signal_bar: 15m, cooldown_bars: 2}}
  ZC: {quantity: 2, strategy: {exits: {flat_by: "12:00"}}}
"""
LONG_BARS = """
strategy:
  signal_bar: 4h
  entry: {windows: [], pivots: none, ibs: [0.0, 0.6]}
  exits: {stop: null, target: null, ibs: null, bars: null, flat_by: null}
symbols: {ES: {}, CL: {}, ZC: {strategy: {signal_bar: 1d}}, NQ: {strategy: {signal_bar: 1d}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Seven weeks over a clock change, a roll and an early close; three session groups."""
    out = tmp_path_factory.mktemp("bars")
    write_sample(
        out,
        roots=["ES", "NQ", "CL", "ZC"],
        start=date(2023, 2, 13),
        end=date(2023, 3, 31),
        seed=5,
    )
    return out


@pytest.fixture(scope="module")
def held(folder):
    return hold(open_bars([folder], CONTRACTS))


@pytest.fixture
def settings_of(tmp_path):
    def load(text=""):
        path = tmp_path / "config.yml"
        path.write_text(text)
        return load_settings([path])

    return load


@pytest.fixture
def pictures(held, settings_of):
    return EnginePictures(held, settings_of(), CONTRACTS, roots=["ES", "NQ"], names=NAMES)


def cuts_of(taken, n=6, seed=1):
    return choose_cuts(taken(None), n, seed)


def changed(taken, stage, change, symbol="ES"):
    """Take pictures of which one table is another."""

    def picture(cut_ns):
        found = taken(cut_ns)
        tables = [
            change(each) if (each.stage, each.symbol) == (stage, symbol) else each
            for each in found.tables
        ]
        return replace(found, tables=tables)

    return picture


def with_column(name, function):
    def change(table):
        return replace(table, columns={**table.columns, name: function(table.columns[name])})

    return change


def ahead(n):
    return lambda x: np.append(x[n:], np.full(min(n, len(x)), np.nan))


# ---------------------------------------------------------------- planted leaks


@pytest.mark.parametrize(
    "leak",
    [
        lambda x: np.convolve(x, np.full(5, 0.2), "same"),
        ahead(3),
        ahead(1),
        lambda x: (x - np.nanmean(x)) / np.nanstd(x),
    ],
    ids=["centred window", "negative shift", "next bar", "z-score over all data"],
)
def test_a_formula_that_reads_later_bars_is_named(pictures, leak):
    planted = changed(pictures, "feature", with_column("bar_ibs", leak))
    (finding,) = check(planted, cuts_of(pictures))
    assert (finding.stage, finding.symbol, finding.name) == ("feature", "ES", "bar_ibs")
    assert finding.cause == "all its inputs are equal: the formula itself reads later bars"
    assert finding.whole != finding.cut


def test_a_session_that_is_read_before_it_closes_is_named(monkeypatch, held, settings_of):
    def leaking(series, instrument):
        feed = reading.feed_of(series, instrument)
        days = feed.days.copy()
        days["end_ns"] = days["start_ns"] + 1
        return feeds.Feed(feed.bars, days, feed.dates)

    monkeypatch.setattr("ibs_core.feature_table.feed_of", leaking)
    taken = EnginePictures(
        held, settings_of(), CONTRACTS, roots=["ES"], names=["bar_ibs", "day_ibs"]
    )
    (finding,) = check(taken, cuts_of(taken))
    assert (finding.symbol, finding.name) == ("ES", "day_ibs")
    assert "first input that differs: high of the last session at" in finding.cause


def test_another_instrument_normalised_over_all_data_is_named(monkeypatch, pictures):
    honest = feeds.Feed.read

    def read(self, *asked):
        values = honest(self, *asked)
        return (values - np.nanmean(values)) / np.nanstd(values)

    monkeypatch.setattr(feeds.Feed, "read", read)
    (finding,) = check(pictures, cuts_of(pictures))[:1]
    assert (finding.stage, finding.name) == ("feature", "x_nq_bar_ret")
    assert "first input that differs: close of NQ's newest bar at" in finding.cause


def test_a_join_that_takes_a_bar_still_in_progress_is_named(monkeypatch, pictures):
    honest = feeds.newest_bar

    def by_label(ends, other_ends, tf_ns):
        return honest(ends, other_ends - tf_ns, tf_ns)  # a bar that starts now has this label

    monkeypatch.setattr(feeds, "newest_bar", by_label)
    findings = check(pictures, cuts_of(pictures))
    assert {"x_nq_bar_ret", "bar_pair_z"} == {each.name for each in findings}
    causes = {each.name: each.cause for each in findings}
    assert "first input that differs: close of NQ's newest bar" in causes["x_nq_bar_ret"]
    assert "first input that differs: pair close" in causes["bar_pair_z"]


def test_a_bar_that_holds_the_next_bar_s_first_minute_is_named(monkeypatch, held, settings_of):
    """Every bar says that it was known a minute before its last minute ended."""
    honest = one_pass._checked

    def checked(*asked, **options):
        series = honest(*asked, **options)
        series.bars["end_ns"] -= MINUTE_NS
        return series

    monkeypatch.setattr(one_pass, "_checked", checked)
    taken = EnginePictures(held, settings_of(), CONTRACTS, roots=["ES"], names=["bar_ibs"])
    findings = check(taken, cuts_of(taken))
    assert {(each.stage, each.name) for each in findings} >= {("bar", "minutes"), ("bar", "row")}
    by_cut = next(each for each in findings if each.name == "row")
    assert by_cut.cut == "no row"
    assert by_cut.cause == "equal up to there: minute"


def test_minutes_that_are_stamped_too_early_are_named(held, settings_of):
    class Early(HeldBars):
        """Its stamps are a minute early, so the newest minute is missing whenever it is looked at."""

        def between(self, first_ns=None, until_ns=None):
            short = super().between(first_ns, until_ns - MINUTE_NS)
            return Now(short._runs, short.contracts, short._span)

    class Now(HeldBars):
        @property
        def until_ns(self):
            return self._span[1] + MINUTE_NS

    taken = EnginePictures(
        Early(held._runs, CONTRACTS), settings_of(), CONTRACTS, roots=["ES"], names=["bar_ibs"]
    )
    findings = check(taken, cuts_of(taken))
    assert findings
    assert {(each.stage, each.name) for each in findings} == {("minute", "row")}
    assert findings[0].cause == "the data themselves differ"


def test_a_gate_that_sees_the_next_bar_is_named_with_what_it_reaches(pictures):
    planted = changed(pictures, "gate", with_column("ibs", ahead(1)))
    planted = changed(
        planted, "decision", with_column("score", lambda x: np.full(len(x), len(x), "f8"))
    )
    (finding,) = check(planted, cuts_of(pictures, 1))
    assert (finding.stage, finding.symbol, finding.name) == ("decision", "ES", "score")
    findings = check(changed(pictures, "gate", with_column("ibs", ahead(1))), cuts_of(pictures))
    assert [(each.stage, each.name) for each in findings] == [("gate", "ibs")]
    assert findings[0].cause == "equal up to there: minute, bar, session, feature, schedule"


def test_a_leak_in_bars_is_named_where_it_starts(pictures):
    shifted = with_column("close", ahead(1))
    planted = changed(
        changed(pictures, "bar", shifted), "feature", with_column("bar_ibs", ahead(1))
    )
    findings = check(planted, cuts_of(pictures))
    assert [(each.stage, each.name) for each in findings] == [("bar", "close")]
    assert findings[0].reaches == ("features",)


def fill_inside_decision_bar(taken, price):
    """Fill each entry at the decision bar itself: its first minute's open or its last minute's close."""
    whole = taken(None)
    minutes = {
        name: np.concatenate([each.columns[name] for each in whole.of("minute", "ES")])
        for name in ("open", "close")
    }
    ts = np.concatenate([each.start_ns for each in whole.of("minute", "ES")])

    def change(table):
        before = 60 if price == "open" else 1
        at = np.searchsorted(ts, table.start_ns) - before
        columns = {**table.columns, "entry_price": minutes[price][at]}
        return Table("entry", "ES", "", ts[at], ts[at] + 1, columns)

    return changed(taken, "entry", change)


@pytest.mark.parametrize("price", ["open", "close"])
def test_a_fill_inside_the_bar_that_decides_it_is_named(pictures, price):
    planted = fill_inside_decision_bar(pictures, price)
    findings = check(planted, [])
    assert [(each.stage, each.symbol, each.name) for each in findings] == [("entry", "ES", "fill")]
    assert findings[0].cut_ns is None
    assert "first minute at or after its decision" in str(findings[0])


@pytest.mark.parametrize(("stage", "column"), [("entry", "entry_price"), ("exit", "exit_price")])
def test_a_fill_at_another_price_than_the_open_is_named(pictures, stage, column):
    planted = changed(pictures, stage, with_column(column, lambda x: x - 0.25))
    (finding,) = check(planted, [])
    assert (finding.stage, finding.name) == (stage, "fill")


def test_an_exit_before_its_decision_is_named(pictures):
    def early(table):
        return replace(table, start_ns=table.start_ns - MINUTE_NS)

    (finding,) = check(changed(pictures, "exit", early), [])
    assert (finding.stage, finding.symbol) == ("exit", "ES")


def test_a_decision_that_is_there_only_without_later_bars_is_named(pictures):
    def forget(table):
        keep = np.arange(len(table.start_ns)) != 3
        columns = {name: column[keep] for name, column in table.columns.items()}
        return replace(
            table, start_ns=table.start_ns[keep], known_ns=table.known_ns[keep], columns=columns
        )

    whole = pictures(None)
    spoilt = changed(pictures, "decision", forget)(None)
    found = check(lambda cut_ns: spoilt if cut_ns is None else pictures(cut_ns), cuts_of(pictures))
    decision = next(each for each in found if each.stage == "decision")
    assert decision.name == "row"
    assert decision.start_ns == whole.of("decision", "ES")[0].start_ns[3]


def test_refusal_tells_the_first_finding_and_counts_the_rest(pictures):
    planted = changed(pictures, "feature", with_column("bar_ibs", ahead(1)))
    planted = changed(planted, "feature", with_column("bar_price_z", ahead(2)))
    findings = check(planted, cuts_of(pictures))
    with pytest.raises(DataError, match=r"look-ahead \(1 more\).*feature bar_.* of ES"):
        refuse(findings)
    refuse([])


# ---------------------------------------------------------------- what is known in advance


def test_early_closes_and_rolls_to_come_are_no_leak(held, settings_of):
    taken = EnginePictures(held, settings_of(LONG_BARS), CONTRACTS, roots=["ES"], names=["bar_ibs"])
    whole = taken(None)
    (schedule,) = whole.of("schedule", "ES")
    (seam,) = whole.seams["ES"].tolist()
    cuts = []
    for gate in ("in_early_close", "in_roll"):
        warned = schedule.known_ns[schedule.columns[gate] == 1]
        assert len(warned)
        cuts += warned.tolist()
    assert any(cut < seam <= cut + DAY_NS for cut in cuts)
    assert check(taken, cuts) == []


def test_without_the_roll_table_a_roll_to_come_would_be_a_false_alarm(held, settings_of):
    taken = EnginePictures(held, settings_of(LONG_BARS), CONTRACTS, roots=["ES"], names=["bar_ibs"])
    whole = taken(None)
    (schedule,) = whole.of("schedule", "ES")
    cut = int(schedule.known_ns[schedule.columns["in_roll"] == 1][0])
    blind = EnginePictures(
        held.between(None, cut), settings_of(LONG_BARS), CONTRACTS, roots=["ES"], names=["bar_ibs"]
    )
    found = check(lambda cut_ns: whole if cut_ns is None else blind(None), [cut])
    assert [(each.stage, each.name) for each in found] == [("schedule", "in_roll")]


# ---------------------------------------------------------------- no false alarm


def thinned(held, share, seed=3):
    """Leave minutes out, and let contracts change at any minute."""
    rng = np.random.default_rng(seed)
    runs = {}
    for root in held.roots:
        runs[root] = []
        for run_ in held.stream([root], volume=True):
            n = len(run_.ts_ns)
            keep = np.sort(rng.choice(n, int(n * share), replace=False))
            half = [keep[: len(keep) // 2], keep[len(keep) // 2 :]]
            for k, part in enumerate(half):
                moved = 2.5 * k
                columns = {
                    name: getattr(run_, name)[part] + moved
                    for name in ("open", "high", "low", "close")
                }
                number = len(runs[root])
                runs[root].append(
                    replace(
                        run_,
                        contract_id=number,
                        instrument=f"{run_.instrument}{'ab'[k]}",
                        ts_ns=run_.ts_ns[part],
                        volume=run_.volume[part],
                        **columns,
                    )
                )
    return HeldBars(runs, CONTRACTS)


@pytest.mark.parametrize(
    "config",
    ["", SPARSE_FILTERS, PROTECTIVE, LIMITS, LONG_BARS],
    ids=["default", "filters", "protective", "limits", "long bars"],
)
@pytest.mark.parametrize("share", [1.0, 0.7, 0.05])
def test_the_engine_raises_no_alarm(held, settings_of, config, share):
    bars = held if share == 1.0 else thinned(held, share)
    settings = settings_of(config)
    roots = None if settings.symbols else ["ES", "CL"]
    taken = EnginePictures(bars, settings, CONTRACTS, roots=roots, names=NAMES)
    cuts = cuts_of(taken, 8, seed=int(share * 100))
    assert len(cuts) == 8
    assert [str(each) for each in check(taken, cuts)] == []
    assert count_compared(taken(None), cuts)["fills"] > 4


def test_every_feature_of_the_catalogue_is_compared_and_clean(held, settings_of):
    taken = EnginePictures(held, settings_of(), CONTRACTS, roots=["ES", "NQ"])
    cuts = cuts_of(taken, 3)
    assert check(taken, cuts) == []
    assert count_compared(taken(None), cuts)["features"] > 150


def test_coarse_bars_are_never_cut_inside(held, settings_of):
    def five(run_):
        n = len(run_.ts_ns) // 5 * 5
        on_grid = run_.ts_ns[:n:5] % (5 * MINUTE_NS) == 0
        return replace(
            run_,
            ts_ns=run_.ts_ns[:n:5][on_grid],
            open=run_.open[:n:5][on_grid],
            close=run_.close[4:n:5][on_grid],
            high=run_.high[:n].reshape(-1, 5).max(axis=1)[on_grid],
            low=run_.low[:n].reshape(-1, 5).min(axis=1)[on_grid],
            volume=None,
        )

    coarse = HeldBars({"ES": [five(run_) for run_ in held.stream(["ES"])]}, CONTRACTS)
    taken = EnginePictures(coarse, settings_of(), CONTRACTS, names=["bar_ibs", "day_ibs"])
    cuts = cuts_of(taken, 10)
    assert len(cuts) == 10
    assert all(cut % (5 * MINUTE_NS) == 0 for cut in cuts)
    assert check(taken, cuts) == []


def test_cuts_are_drawn_from_the_seed_and_lie_at_bar_ends_and_inside_bars(pictures):
    whole = pictures(None)
    cuts = choose_cuts(whole, 10, 3)
    assert cuts == choose_cuts(whole, 10, 3) == sorted(cuts)
    assert cuts != choose_cuts(whole, 10, 4)
    ends = np.concatenate([each.known_ns for each in whole.of("bar")])
    assert 5 <= np.isin(cuts, ends).sum() < 10


def test_cuts_wait_until_everything_has_begun(held, settings_of):
    runs = {root: list(held.stream([root], volume=True)) for root in ("ES", "NQ")}
    begins = runs["NQ"][-1].ts_ns[0]
    runs["NQ"] = runs["NQ"][-1:]
    late = HeldBars(runs, CONTRACTS)
    taken = EnginePictures(late, settings_of(), CONTRACTS, roots=["ES"], names=["x_nq_bar_ret"])
    cuts = cuts_of(taken)
    assert min(cuts) > begins
    assert check(taken, cuts) == []
    minutes = late.between(None, begins + 2 * MINUTE_NS)
    taken = EnginePictures(minutes, settings_of(), CONTRACTS, roots=["NQ"], names=["bar_ibs"])
    with pytest.raises((DataError, ConfigError)):
        choose_cuts(taken(None), 3, 1)


def test_fills_of_the_engine_obey_the_laws_of_time(pictures):
    whole = pictures(None)
    decided = whole.of("decision", "ES")[0]
    taken = (decided.columns["action"] == ENTRY) & (decided.columns["reason"] == TAKEN)
    assert taken.sum() > 5
    assert check(pictures, []) == []


# ---------------------------------------------------------------- the command


@pytest.fixture
def call(monkeypatch, capsys):
    def run_words(*words):
        monkeypatch.setattr(sys, "argv", ["ibs", *map(str, words)])
        code = 0
        try:
            run()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_words


def test_the_command_says_what_was_compared_and_that_it_is_clean(call, folder):
    words = ("check", "lookahead", "--parquet", folder, "--symbols", "ES,CL", "--cuts", 3)
    code, out, err = call(*words, "--features", "bar_ibs, day_rsi2")
    assert (code, err) == (0, "")
    assert "no later bar changes an earlier value" in out
    code, out, _ = call(*words, "--features", "bar_ibs", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["compared"]["cuts"] == len(said["cuts_ns"]) == 3
    assert said["findings"] == []
    assert call(*words, "--features", "bar_ibs", "--quiet") == (0, "", "")


def test_the_command_fails_on_a_leak_and_names_it(monkeypatch, call, folder):
    honest = feeds.newest_bar
    monkeypatch.setattr(feeds, "newest_bar", lambda a, b, tf: honest(a, b - tf, tf))
    words = ("check", "lookahead", "--parquet", folder, "--symbols", "ES", "--cuts", 4)
    code, out, err = call(*words, "--features", "x_nq_bar_ret", "--json")
    assert code == 1
    assert json.loads(out)["findings"][0]["name"] == "x_nq_bar_ret"
    assert err.startswith("error: look-ahead: found feature x_nq_bar_ret of ES at ")
    code, out, _ = call(*words, "--features", "x_nq_bar_ret")
    assert code == 1
    assert "feature x_nq_bar_ret of ES" in out
    assert "no later bar" not in out


def test_an_unknown_feature_is_a_wrong_option(call, folder):
    code, _, err = call("check", "lookahead", "--parquet", folder, "--features", "bar_rsi3")
    assert code == 2
    assert "did you mean" in err
