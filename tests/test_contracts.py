"""The contract map, its money, and the spelling of codes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ibs_core import contracts as module
from ibs_core.contract_codes import ContractCode, resolve_code
from ibs_core.contracts import (
    MONTH_LETTERS,
    SESSION_GROUPS,
    load_contract_map,
)
from ibs_core.errors import ConfigError, DataError, EnvironmentFault, UnknownSymbolError

MAP_FILE = Path(__file__).parents[1] / "Data" / "Databento_contract_map.yml"
MAP = load_contract_map()
FUTURES = [contract for contract in MAP.contracts.values() if contract.kind == "future"]

# Written from the exchange's contract pages, not from the map: unit of the contract (in what the
# price is quoted in, times the quantity), smallest move, its worth in USD, and delivery months.
EXCHANGE = {
    "ES": ("50", "0.25", "12.50", "HMUZ"),
    "NQ": ("20", "0.25", "5", "HMUZ"),
    "RTY": ("50", "0.1", "5", "HMUZ"),
    "YM": ("5", "1", "5", "HMUZ"),
    "GC": ("100", "0.1", "10", "GJMQVZ"),
    "SI": ("5000", "0.005", "25", "HKNUZ"),
    "HG": ("25000", "0.0005", "12.50", "HKNUZ"),
    "CL": ("1000", "0.01", "10", "FGHJKMNQUVXZ"),
    "NG": ("10000", "0.001", "10", "FGHJKMNQUVXZ"),
    "6A": ("100000", "0.00005", "5", "HMUZ"),
    "6B": ("62500", "0.0001", "6.25", "HMUZ"),
    "6E": ("125000", "0.00005", "6.25", "HMUZ"),
    "PL": ("50", "0.1", "5", "FJNV"),
    "6C": ("100000", "0.00005", "5", "HMUZ"),
    "6J": ("12500000", "0.0000005", "6.25", "HMUZ"),
    "6M": ("500000", "0.00001", "5", "HMUZ"),
    "6N": ("100000", "0.00005", "5", "HMUZ"),
    "6S": ("125000", "0.00005", "6.25", "HMUZ"),
    "MBT": ("0.1", "5", "0.50", "FGHJKMNQUVXZ"),
    "MES": ("5", "0.25", "1.25", "HMUZ"),
    "MNQ": ("2", "0.25", "0.50", "HMUZ"),
    "M2K": ("5", "0.1", "0.50", "HMUZ"),
    "MYM": ("0.5", "1", "0.50", "HMUZ"),
    "MGC": ("10", "0.1", "1", "GJMQVZ"),
    "SIL": ("1000", "0.005", "5", "HKNUZ"),
    "MHG": ("2500", "0.0005", "1.25", "HKNUZ"),
    "MCL": ("100", "0.01", "1", "FGHJKMNQUVXZ"),
    "MNG": ("1000", "0.001", "1", "FGHJKMNQUVXZ"),
    "M6A": ("10000", "0.0001", "1", "HMUZ"),
    "M6B": ("6250", "0.0001", "0.625", "HMUZ"),
    "M6E": ("12500", "0.0001", "1.25", "HMUZ"),
    "ZB": ("1000", "0.03125", "31.25", "HMUZ"),
    "ZC": ("50", "0.25", "12.50", "HKNUZ"),
    "ZS": ("50", "0.25", "12.50", "FHKNQUX"),
    "ZW": ("50", "0.25", "12.50", "HKNUZ"),
}
PAIRS = {
    "ES": "NQ",
    "NQ": "ES",
    "RTY": "YM",
    "YM": "RTY",
    "GC": "SI",
    "SI": "GC",
    "HG": "SI",
    "CL": "NG",
    "NG": "CL",
    "6A": "6E",
    "6B": "6E",
    "6E": "6A",
}
MICROS = {
    "MES": "ES",
    "MNQ": "NQ",
    "M2K": "RTY",
    "MYM": "YM",
    "MGC": "GC",
    "SIL": "SI",
    "MHG": "HG",
    "MCL": "CL",
    "MNG": "NG",
    "M6A": "6A",
    "M6B": "6B",
    "M6E": "6E",
}


def ns(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


def resolved(code, at=None):
    return resolve_code(code, MAP, at_ns=None if at is None else ns(at))


def test_the_table_of_the_exchange_covers_exactly_the_futures_of_the_map():
    assert set(EXCHANGE) == {contract.root for contract in FUTURES}


@pytest.mark.parametrize("root", EXCHANGE)
def test_every_contract_is_worth_what_the_exchange_says(root):
    unit, tick, value, months = EXCHANGE[root]
    contract = MAP.get(root)
    assert Fraction(value) / Fraction(tick) == Fraction(unit), "the table contradicts itself"
    assert contract.tick_size == float(tick)
    assert contract.tick_nano == Decimal(tick) * 10**9
    assert contract.tick_value_usd == float(value)
    assert contract.point_value_usd == float(unit)
    assert contract.months == months


def test_canadian_dollar_and_peso_have_their_true_point_values():
    assert MAP.get("6C").point_value_usd == 100_000
    assert MAP.get("6M").point_value_usd == 500_000


@pytest.mark.parametrize(("micro", "full"), MICROS.items())
def test_a_micro_is_a_symbol_of_its_own_worth_a_whole_fraction_of_its_full_size(micro, full):
    assert MAP.get(micro).full_size == full
    ratio = MAP.get(full).point_value_usd / MAP.get(micro).point_value_usd
    assert ratio == (5 if micro == "SIL" else 10)
    assert MAP.get(micro).session == MAP.get(full).session


def test_no_other_contract_claims_a_full_size():
    assert {each.root for each in FUTURES if each.full_size} == set(MICROS)


def test_pairs_are_those_of_the_strategy_and_micros_pair_with_micros():
    of_micro = {full: micro for micro, full in MICROS.items()}
    expected = PAIRS | {of_micro[root]: of_micro[pair] for root, pair in PAIRS.items()}
    assert {each.root: each.pair for each in MAP.contracts.values() if each.pair} == expected


def test_every_pair_exists():
    for contract in MAP.contracts.values():
        assert contract.pair is None or contract.pair in MAP.contracts


def test_every_future_can_be_asked_of_databento_and_ordered():
    for contract in FUTURES:
        assert contract.dataset == "GLBX.MDP3"
        assert contract.continuous == f"{contract.root}.v.0"
        assert contract.parent == f"{contract.root}.FUT"
        assert contract.roll == "volume"
        assert contract.traderspost_ticker == contract.root
        assert contract.traderspost_description
        assert contract.source.startswith("https://www.cmegroup.com/")


def test_an_index_is_for_research_and_has_nothing_to_order_with():
    index = MAP.get("SPX")
    assert (index.kind, index.session, index.roll) == ("index", "cash_index", "none")
    assert not index.traderspost_ticker
    assert not index.continuous


def test_only_crude_oil_may_print_at_or_below_zero():
    assert [each.root for each in FUTURES if each.allow_nonpositive] == ["CL", "MCL"]


def test_session_groups_are_the_ones_that_the_calendar_knows():
    assert {each.session for each in MAP.contracts.values()} == set(SESSION_GROUPS)
    assert MAP.get("ZC").session == "grains"
    assert MAP.get("ZB").session == "rates"


def test_reference_feeds_are_no_contracts_and_tlt_is_the_fund_not_the_bond_future():
    assert list(MAP.reference_feeds) == ["VIX", "TLT"]
    assert "ETF" in MAP.reference_feeds["TLT"].description
    assert not MAP.reference_feeds.keys() & MAP.contracts.keys()


def test_order_is_the_order_of_the_file():
    roots = list(yaml.safe_load(MAP_FILE.read_text())["contracts"])
    assert list(MAP.contracts) == roots
    assert [MAP.order(root) for root in roots] == list(range(len(roots)))


@pytest.mark.parametrize("symbol", ["XYZ", "TLT", "VIX", "es", "", "ESZ5"])
def test_an_unknown_symbol_is_refused_and_never_given_a_tick_of_one(symbol):
    with pytest.raises(UnknownSymbolError) as caught:
        MAP.get(symbol)
    assert caught.value.exit_code == 1
    assert repr(symbol) in str(caught.value)
    with pytest.raises(UnknownSymbolError):
        MAP.order(symbol)


def test_an_unknown_symbol_is_answered_with_the_nearest_known_one():
    with pytest.raises(UnknownSymbolError, match="did you mean 'MNQ'"):
        MAP.get("MNQQ")
    with pytest.raises(UnknownSymbolError, match="reference feed, which is never traded"):
        MAP.get("TLT")


contracts = st.sampled_from(list(MAP.contracts.values()))


@given(contracts, st.integers(-(10**6), 10**6))
def test_every_price_of_the_grid_is_on_the_grid_and_is_the_float_of_the_feed(contract, n_ticks):
    price = n_ticks * contract.tick_nano / 1e9
    assert contract.is_on_tick(price)
    assert contract.round_to_tick(price) == price


@given(contracts, st.floats(-1e5, 1e5))
def test_rounding_lands_on_the_grid_within_half_a_tick_and_stays_there(contract, price):
    rounded = contract.round_to_tick(price)
    assert contract.is_on_tick(rounded)
    assert contract.round_to_tick(rounded) == rounded
    distance = abs(Fraction(rounded) - Fraction(price)) * 10**9
    assert distance <= Fraction(contract.tick_nano, 2) + 1 + Fraction(math.ulp(price)) * 10**9


@given(contracts, st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_rounding_keeps_the_order_of_prices(contract, one, other):
    low, high = sorted((one, other))
    assert contract.round_to_tick(low) <= contract.round_to_tick(high)


@pytest.mark.parametrize(
    ("root", "price", "rounded"),
    [
        ("ES", 5000.12, 5000.0),
        ("ES", 5000.125, 5000.25),
        ("ES", -5000.125, -5000.0),
        ("RTY", 2000.05, 2000.1),
        ("CL", -37.634, -37.63),
        ("6J", 0.00671234, 0.0067125),
        ("6M", 0.054321, 0.05432),
        ("ZB", 117.02, 117.03125),
        ("MBT", 97_502.5, 97_505.0),
    ],
)
def test_prices_round_to_the_nearest_tick_and_halves_go_up(root, price, rounded):
    assert MAP.get(root).round_to_tick(price) == rounded


def test_a_price_between_two_ticks_is_off_the_grid():
    assert not MAP.get("ES").is_on_tick(5000.1)
    assert not MAP.get("6B").is_on_tick(1.25005)
    assert MAP.get("6A").is_on_tick(0.65005)
    assert MAP.get("GC").is_on_tick(0.1 + 0.2), "the dust of binary fractions is not a fault"


futures = st.sampled_from(FUTURES)


@st.composite
def outrights(draw):
    root = draw(futures).root
    return ContractCode(root, draw(st.integers(1990, 2060)), draw(st.integers(1, 12)), "outright")


@given(outrights(), st.integers(-1, 118), st.data())
def test_every_spelling_of_a_traded_outright_names_it(code, months_before, data):
    """From 118 months before the delivery month to the month of grace after it."""
    letter = MONTH_LETTERS[code.month - 1]
    stem = f"{code.root}{letter}"
    traded = 12 * code.year + code.month - 1 - months_before
    day, second = data.draw(st.integers(1, 28)), data.draw(st.integers(0, 86_399))
    at = datetime(traded // 12, traded % 12 + 1, day, tzinfo=UTC).timestamp() + second
    spellings = [f"{stem}{code.year}", f"{stem}{code.year % 100:02}", f"{stem}{code.year % 10}"]
    for spelling in [*spellings, *(f" /{each.lower()} " for each in spellings), code.spelling]:
        assert resolve_code(spelling, MAP, at_ns=int(at) * 10**9) == code
    assert resolve_code(code.spelling, MAP) == code


@given(futures, st.sampled_from(["{}", "{}.v.0", "{}.c.0", "{}.n.0", "{}.FUT"]))
def test_series_and_roots_name_their_root_and_are_spelt_as_it(contract, form):
    code = resolved(form.format(contract.root))
    assert (code.root, code.year, code.month) == (contract.root, None, None)
    assert code.spelling == contract.root


@pytest.mark.parametrize(
    ("code", "form"),
    [
        ("ES", "root"),
        ("es.v.0", "continuous"),
        ("ES.c.0", "continuous"),
        ("ES.n.0", "continuous"),
        ("ES.FUT", "parent"),
        ("ESZ24", "outright"),
        ("SPX", "root"),
    ],
)
def test_the_form_of_a_code_is_told(code, form):
    assert resolved(code).form == form


@pytest.mark.parametrize(
    ("code", "at", "spelling"),
    [
        ("NGN25", None, "NGN2025"),
        ("6EH4", "2024-02-01", "6EH2024"),
        ("6AH2025", None, "6AH2025"),
        ("MNQZ5", "2025-12-01", "MNQZ2025"),
        ("M6AH5", "2025-01-02", "M6AH2025"),
        ("M2KZ5", "2025-12-01", "M2KZ2025"),
        ("MBTF6", "2025-12-31", "MBTF2026"),
        ("/ESZ24", None, "ESZ2024"),
        ("  esz4\n", "2024-12-01", "ESZ2024"),
        ("ESH70", None, "ESH1970"),
        ("ESH99", None, "ESH1999"),
        ("ESH69", None, "ESH2069"),
        ("ESH00", None, "ESH2000"),
    ],
)
def test_codes_met_in_the_wild_are_spelt_in_full(code, at, spelling):
    assert resolved(code, at).spelling == spelling


@pytest.mark.parametrize(
    ("code", "at", "year"),
    [
        ("ESZ9", "2019-12-20", 2019),
        ("ESH0", "2019-12-20", 2020),
        ("ESZ9", "2019-12-31T23:59:59", 2019),
        ("ESZ9", "2020-01-03", 2019),  # a late stamp: within the month of grace
        ("ESZ9", "2020-02-01", 2029),
        ("ESH0", "2020-03-20", 2020),
        ("ESU0", "2019-11-01", 2020),
        ("CLF0", "2019-12-01", 2020),
        ("CLF0", "2020-02-29", 2020),
        ("CLF0", "2020-03-01", 2030),
        ("ESZ9", "2028-01-03", 2029),
        ("ESZ9", "2029-12-31", 2029),
        ("ESH0", "2029-12-31", 2030),
        ("ESZ9", "2030-01-31T23:59:59", 2029),
        ("ESZ9", "2030-02-01", 2039),
        ("ESZ9", "2010-01-04", 2009),
        ("ESZ9", "1999-12-01", 1999),
        ("ESH0", "1999-12-01", 2000),
    ],
)
def test_a_year_of_one_digit_is_right_on_both_sides_of_a_decade(code, at, year):
    assert resolved(code, at).year == year


def test_the_same_code_names_two_contracts_ten_years_apart():
    assert resolved("ESZ5", "2015-10-01").spelling == "ESZ2015"
    assert resolved("ESZ5", "2025-10-01").spelling == "ESZ2025"


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("ESZ4", "needs a date"),
        ("ESH4-ESZ4", "spreads"),
        ("ESM4-ESU4", "spreads"),
        ("CL:C1 HO-CL N4", "spreads"),
        ("ESZ4 C5000", "options"),
        ("ES.OPT", "options"),
        ("ES1!", "vendors' own codes"),
        ("@ES", "vendors' own codes"),
        ("ES.v.1", "front"),
        ("ES.c.12", "front"),
        ("ESA25", "'A' is none of the delivery months"),
        ("ESY2025", "'Y' is none of the delivery months"),
        ("SPXZ25", "index"),
        ("SPX.v.0", "index"),
    ],
)
def test_what_is_no_outright_is_refused_with_its_reason(code, why):
    with pytest.raises(DataError, match=why) as caught:
        resolved(code)
    assert type(caught.value) is DataError
    assert caught.value.exit_code == 1
    assert repr(code.upper()) in str(caught.value)


@pytest.mark.parametrize(
    ("code", "nearest"),
    [("ESS", "ES"), ("MNQX", "MNQ"), ("XYZH25", None), ("ESZ025", "ES"), ("MEZ.v.0", "MES")],
)
def test_a_code_of_an_unknown_root_is_refused_with_the_nearest_root(code, nearest):
    with pytest.raises(UnknownSymbolError) as caught:
        resolved(code)
    assert nearest is None or f"did you mean {nearest!r}" in str(caught.value)


@given(st.text(max_size=12))
def test_any_text_is_either_a_code_of_the_map_or_a_data_error(text):
    try:
        code = resolve_code(text, MAP, at_ns=ns("2025-06-01"))
    except DataError:
        return
    assert code.root in MAP.contracts


def written(tmp_path, text, name="map.yml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def edited(tmp_path, old, new):
    text = MAP_FILE.read_text(encoding="utf-8")
    assert old in text
    return written(tmp_path, text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('tick_size: "0.25"', 'tick_sise: "0.25"', ["contracts.ES.tick_sise", "'tick_size'"]),
        ('tick_size: "0.25"', 'tick_size: "0"', ["contracts.ES.tick_size", "above 0", "'0'"]),
        ('tick_size: "0.25"', 'tick_size: "-0.25"', ["contracts.ES.tick_size", "'-0.25'"]),
        ('tick_size: "0.25"', 'tick_size: "nan"', ["contracts.ES.tick_size", "'nan'"]),
        ('tick_size: "0.25"', 'tick_size: "0.0000000001"', ["contracts.ES.tick_size", "9 places"]),
        ('tick_size: "0.25"', "tick_size: 0.00001", ["contracts.ES.tick_size", "in quotes"]),
        ('tick_size: "0.25"', "tick_size: true", ["contracts.ES.tick_size", "'True'"]),
        ('tick_value_usd: "12.50"', 'tick_value_usd: "0.0"', ["ES.tick_value_usd", "above 0"]),
        ("session: equity", "session: equities", ["ES.session", "one of equity", "'equities'"]),
        ("pair: NQ", "pair: NX", ["ES.pair", "'NX'", "did you mean 'NQ'"]),
        ("pair: NQ", "pair: ES", ["ES.pair", "another root"]),
        ("full_size: ES", "full_size: EX", ["MES.full_size", "did you mean 'ES'"]),
        ("kind: future", "kind: option", ["ES.kind", "future or index", "'option'"]),
        ("kind: future", "kind: [future]", ["ES.kind", "future or index"]),
        ("{rule: volume}", "{rule: calendar}", ["ES.roll.rule", "volume", "'calendar'"]),
        ("roll: {rule: volume}", "roll: volume", ["ES.roll", "did you mean 'roll.rule'"]),
        ("ES.v.0", "ES.c.0", ["ES.symbology.continuous", "expected ES.v.0", "'ES.c.0'"]),
        ("ES.FUT", "NQ.FUT", ["ES.symbology.parent", "expected ES.FUT"]),
        ("months: HMUZ", "months: ZUMH", ["ES.months", "FGHJKMNQUVXZ", "'ZUMH'"]),
        ("months: HMUZ", 'months: ""', ["ES.months"]),
        ("source: https:", "source: ftp:", ["ES.source", "https"]),
        ("ticker: ES", "ticker: ESZ1!", ["ES.traderspost.ticker", "'ESZ1!'"]),
        ("description: E-mini S&P 500\n", "description:\n", ["ES.description", "found nothing"]),
        ("allow_nonpositive: true", "allow_nonpositive: perhaps", ["CL.allow_nonpositive"]),
        ("rule: none", "rule: volume", ["SPX.roll.rule", "an index has no contracts"]),
        ("  ES:\n", "  es:\n", ["contracts.es", "capitals"]),
        ("  ES:\n", "  5:\n", ["contracts.5", "capitals"]),
        ("  PL:\n", "  PL: platinum\n  PA:\n", ["contracts.PL", "a mapping", "'platinum'"]),
        ("version: 1", "version: 2", ["version", "expected 1", "found 2"]),
        ("contracts:\n", "contract:\n", ["contract:", "did you mean 'contracts'"]),
        ("  VIX:", "  ES:", ["reference_feeds.ES", "no contract has"]),
        ("  VIX:\n    desc", "  VIX: 5\n  TIP:\n    desc", ["reference_feeds.VIX", "found 5"]),
        ("  VIX:\n", "  VIX:\n    colour: red\n", ["reference_feeds.VIX.colour", "a known key"]),
    ],
)
def test_a_fault_of_the_map_is_refused_with_its_place_and_what_was_expected(
    tmp_path, old, new, parts
):
    path = edited(tmp_path, old, new)
    with pytest.raises(ConfigError) as caught:
        load_contract_map(path)
    assert caught.value.exit_code == 2
    for part in [str(path), *parts]:
        assert part in str(caught.value)


def test_all_faults_of_a_map_are_told_at_once(tmp_path):
    path = edited(tmp_path, 'tick_size: "0.25"', 'tick_size: "0"')
    text = path.read_text().replace("pair: ES", "pair: EX").replace("version: 1", "version: 7")
    with pytest.raises(ConfigError) as caught:
        load_contract_map(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    ("old", "new", "key", "line_of"),
    [
        ("  NQ:\n", "  ES:\n", "'ES'", "  ES:"),
        ("    pair: NQ\n", "    pair: NQ\n    pair: ES\n", "'pair'", "    pair: ES"),
        ("version: 1\n", "version: 1\nversion: 1\n", "'version'", "version: 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_line(tmp_path, old, new, key, line_of):
    path = edited(tmp_path, old, new)
    lines = path.read_text().splitlines()
    first = lines.index(line_of)
    line = first + 1 if line_of.endswith("pair: ES") else lines.index(line_of, first + 1) + 1
    with pytest.raises(ConfigError, match=f"key {key} twice, in line {line}\\b") as caught:
        load_contract_map(path)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "# nothing\n", "[1, 2]", "ES", "a: &a {b: *a}", "{}"])
def test_what_is_not_a_map_is_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="contracts: expected a mapping of roots") as caught:
        load_contract_map(written(tmp_path, text))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("feeds", ["[VIX]", "VIX"])
def test_reference_feeds_that_are_no_mapping_are_refused(tmp_path, feeds):
    text = MAP_FILE.read_text()
    text = text[: text.index("reference_feeds:")] + f"reference_feeds: {feeds}\n"
    with pytest.raises(ConfigError, match="reference_feeds: expected a mapping"):
        load_contract_map(written(tmp_path, text))


@pytest.mark.parametrize("text", ["contracts: [", "a: b: c", "{1: 2", "\tversion: 1"])
def test_text_that_is_no_yaml_is_refused_with_the_place(tmp_path, text):
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=r"malformed.* line [12]") as caught:
        load_contract_map(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "map.yml"
    path.write_bytes(b"version: \xff\xfe")
    with pytest.raises(ConfigError, match="malformed contract map"):
        load_contract_map(path)


@pytest.mark.parametrize("indent", [None, 2, "\t"])
def test_json_is_accepted_and_means_the_same(tmp_path, indent):
    raw = yaml.safe_load(MAP_FILE.read_text())
    loaded = load_contract_map(written(tmp_path, json.dumps(raw, indent=indent), "map.json"))
    assert loaded.digest == MAP.digest
    assert loaded.contracts == MAP.contracts
    assert list(loaded.contracts) == list(MAP.contracts)


def test_a_key_that_stands_twice_in_json_is_refused_too(tmp_path):
    text = json.dumps(yaml.safe_load(MAP_FILE.read_text()), indent=1)
    text = text.replace('"NQ": {', '"ES": {', 1)
    with pytest.raises(ConfigError, match="key 'ES' twice"):
        load_contract_map(written(tmp_path, text, "map.json"))


def test_a_missing_map_is_a_fault_of_the_environment(tmp_path):
    path = tmp_path / "absent.yml"
    with pytest.raises(EnvironmentFault, match="No such file") as caught:
        load_contract_map(path)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)


def test_a_folder_in_place_of_the_map_is_a_fault_of_the_environment(tmp_path):
    with pytest.raises(EnvironmentFault):
        load_contract_map(tmp_path)


def test_the_packaged_map_comes_before_the_one_of_the_tree(tmp_path, monkeypatch):
    (tmp_path / "Databento_contract_map.yml").write_text(
        MAP_FILE.read_text().replace("E-mini Dow", "packaged")
    )
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path, MAP_FILE.parent))
    assert load_contract_map().get("YM").description == "packaged"
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path / "none", MAP_FILE.parent))
    assert load_contract_map().digest == MAP.digest
    monkeypatch.setattr(module, "_FOLDERS", (tmp_path / "none", tmp_path / "none"))
    with pytest.raises(EnvironmentFault):
        load_contract_map()


def test_optional_keys_may_be_null(tmp_path):
    contracts_map = load_contract_map(edited(tmp_path, "pair: NQ", "pair: null"))
    assert contracts_map.get("ES").pair is None


def test_the_digest_ignores_comments_and_layout(tmp_path):
    path = edited(tmp_path, "version: 1", "# another comment\n\nversion: 1  # and one more")
    assert load_contract_map(path).digest == MAP.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('tick_value_usd: "12.50"', 'tick_value_usd: "12.51"'),
        ("pair: NQ", "pair: YM"),
        ("months: HMUZ", "months: HMU"),
        ("n: Cboe v", "n: The Cboe v"),
        ("    allow_nonpositive: true\n", ""),
    ],
)
def test_the_digest_follows_the_content(tmp_path, old, new):
    assert load_contract_map(edited(tmp_path, old, new)).digest != MAP.digest


def test_the_digest_follows_the_order(tmp_path):
    raw = yaml.safe_load(MAP_FILE.read_text())
    raw["contracts"] = dict(reversed(raw["contracts"].items()))
    assert load_contract_map(written(tmp_path, json.dumps(raw))).digest != MAP.digest


def test_loading_the_map_imports_no_data_frame_compiler_or_schema_library():
    code = (
        "import sys; from ibs_core.contracts import load_contract_map; load_contract_map();"
        "print(sorted({'polars', 'numba', 'numpy', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
