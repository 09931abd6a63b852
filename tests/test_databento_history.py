"""History from files and from the service, without a key: the vendor is DBN in memory."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import numpy as np
import pytest
import requests
from databento.common.error import BentoClientError, BentoServerError
from dbn_vendor import day_of, rolling_vendor

from adapters.databento_history import (
    DatabentoHistory,
    DatabentoVendor,
    Interval,
    LocalHistory,
    Request,
    download,
    is_complete,
    make_plan,
    plan_sessions,
)
from ibs_core.bars import DAY_NS
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError, EnvironmentFault

CONTRACTS = load_contract_map()
KEY = "db-" + "k" * 29
REQUEST = Request("GLBX.MDP3", "ohlcv-1m", ("ESZ5",), 10**18, 2 * 10**18)


def ns(text):
    return int(np.datetime64(text, "ns").astype(np.int64))


def planned(vendor, first, last):
    span = plan_sessions(CONTRACTS.get("ES"), date.fromisoformat(first), date.fromisoformat(last))
    return make_plan(vendor, CONTRACTS, ["ES"], "ohlcv-1m", [span])


def counted(vendor, plan):
    return [(piece, vendor.n_records(piece.request)) for piece in plan]


def test_a_plan_is_a_month_a_piece_and_leaves_no_minute_out():
    vendor = rolling_vendor()
    plan = planned(vendor, "2025-11-20", "2025-12-19")
    spans = [(piece.request.start_ns, piece.request.end_ns) for piece in plan]
    assert len(spans) == 2
    assert spans[0][1] == spans[1][0] == ns("2025-12-01")
    assert day_of(spans[0][0]) == date(2025, 11, 18)  # the session before the first
    assert plan[0].request.symbols == ("ESZ5",)
    assert plan[1].request.symbols == ("ESZ5", "ESH6")
    assert len({piece.file_name for piece in plan}) == 2


def test_sessions_are_whole():
    start_ns, end_ns = plan_sessions(CONTRACTS.get("ES"), date(2025, 11, 3), date(2025, 11, 7))
    assert (start_ns, end_ns) == (ns("2025-11-02T23:00"), ns("2025-11-07T22:00"))
    with pytest.raises(DataError, match="no session"):
        plan_sessions(CONTRACTS.get("ES"), date(2025, 11, 8), date(2025, 11, 9))


def test_what_is_complete_is_not_fetched_again_and_what_is_cut_is(tmp_path):
    vendor = rolling_vendor()
    plan = counted(vendor, planned(vendor, "2025-11-20", "2025-12-19"))
    files = download(vendor, plan, tmp_path)
    assert len(vendor.fetched) == 2
    assert download(vendor, plan, tmp_path) == files
    assert len(vendor.fetched) == 2
    content = files[0].read_bytes()
    for cut in (content[:-3], content[: len(content) // 2], b"", b"DBN"):
        files[0].write_bytes(cut)
        assert not is_complete(*plan[0][:1], tmp_path, plan[0][1])
    download(vendor, plan, tmp_path)
    assert len(vendor.fetched) == 3
    assert files[0].read_bytes() == content


def test_fewer_records_than_told_are_no_download(tmp_path):
    vendor = rolling_vendor()
    vendor.cuts = 1
    with pytest.raises(EnvironmentFault, match="incomplete download"):
        download(vendor, counted(vendor, planned(vendor, "2025-12-01", "2025-12-02")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_download_keeps_what_is_done(tmp_path):
    vendor = rolling_vendor()
    vendor.fails_after = 1
    plan = counted(vendor, planned(vendor, "2025-11-20", "2025-12-19"))
    with pytest.raises(KeyboardInterrupt):
        download(vendor, plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [plan[0][0].file_name]


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, monkeypatch):
    vendor = rolling_vendor()

    def full(_request, path):
        path.write_bytes(b"DBN")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vendor, "fetch", full)
    with pytest.raises(EnvironmentFault, match="No space left"):
        download(vendor, counted(vendor, planned(vendor, "2025-12-01", "2025-12-02")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_history_gives_each_session_its_front_contract(tmp_path):
    vendor = rolling_vendor()
    first_ns, until_ns = ns("2025-12-12T15:30"), ns("2025-12-17T15:30")
    for _ in range(2):
        held = DatabentoHistory(vendor, CONTRACTS, tmp_path).minutes(["ES"], first_ns, until_ns)
        runs = list(held.stream(["ES"], volume=True))
        assert {run.instrument for run in runs} == {"ESZ2025", "ESH2026"}
        for run in runs:
            days = set(run.ts_ns // DAY_NS * DAY_NS)
            assert all((day >= ns("2025-12-16")) == (run.instrument == "ESH2026") for day in days)
            assert (run.close == np.round(run.close, 2)).all()
        ts_ns = np.concatenate([run.ts_ns for run in runs])
        assert ts_ns[0] == first_ns
        assert ts_ns[-1] == until_ns - 60 * 10**9
    assert len(vendor.fetched) == 1


def test_history_beyond_what_the_service_has_is_empty(tmp_path):
    history = DatabentoHistory(rolling_vendor(), CONTRACTS, tmp_path)
    assert history.minutes(["ES"], ns("2026-01-05"), ns("2026-01-06")).roots == ()


def test_files_serve_the_same_minutes(tmp_path):
    vendor = rolling_vendor()
    first_ns, until_ns = ns("2025-12-12T15:30"), ns("2025-12-17T15:30")
    wanted = DatabentoHistory(vendor, CONTRACTS, tmp_path).minutes(["ES"], first_ns, until_ns)
    found = LocalHistory([tmp_path], CONTRACTS).minutes(["ES"], first_ns, until_ns)
    for one, other in zip(wanted.stream(["ES"]), found.stream(["ES"]), strict=True):
        assert one.instrument == other.instrument
        np.testing.assert_array_equal(one.ts_ns, other.ts_ns)
        np.testing.assert_array_equal(one.close, other.close)


class Refusing:
    """A client whose calls raise some errors, then answer."""

    def __init__(self, errors, answer):
        self.errors, self.answer, self.calls = list(errors), answer, []
        self.metadata = SimpleNamespace(
            get_cost=self.call, get_record_count=self.call, get_dataset_range=self.call
        )
        self.symbology = SimpleNamespace(resolve=self.call)
        self.timeseries = SimpleNamespace(get_range=self.call)

    def call(self, **facts):
        self.calls.append(facts)
        if self.errors:
            raise self.errors.pop(0)
        return self.answer


def test_the_service_is_waited_for_as_long_as_it_asks():
    errors = [
        BentoClientError(429, message="slow down", headers={"Retry-After": "7"}),
        BentoServerError(503, message="later"),
    ]
    client, waits = Refusing(errors, 1.25), []
    vendor = DatabentoVendor(KEY, client, waits.append)
    assert vendor.cost_usd(REQUEST) == 1.25
    assert waits == [7.0, 2.0]
    assert client.calls[-1]["symbols"] == ["ESZ5"]
    assert client.calls[-1]["stype_in"] == "raw_symbol"


@pytest.mark.parametrize(
    ("error", "expected", "match"),
    [
        (BentoClientError(401, message=f"bad {KEY}"), EnvironmentFault, "refuses the account"),
        (BentoClientError(422, message=f"bad {KEY}"), DataError, "refuses the request"),
        (BentoServerError(500, message=f"bad {KEY}"), EnvironmentFault, "does not answer"),
        (requests.ConnectionError(f"no {KEY}"), EnvironmentFault, "did not arrive"),
    ],
    ids=["401", "422", "500", "no network"],
)
def test_refusals_are_ours_and_never_hold_the_key(error, expected, match):
    vendor = DatabentoVendor(KEY, Refusing([error] * 9, None), lambda _s: None)
    with pytest.raises(expected, match=match) as caught:
        vendor.n_records(REQUEST)
    assert KEY not in str(caught.value)


def test_without_a_key_there_is_no_service():
    with pytest.raises(EnvironmentFault, match="DATABENTO_API_KEY"):
        DatabentoVendor("")


def test_answers_are_read_as_the_service_writes_them():
    client = Refusing(
        [], {"result": {"ES.v.0": [{"d0": "2025-12-01", "d1": "2025-12-16", "s": "11"}]}}
    )
    vendor = DatabentoVendor(KEY, client)
    found = vendor.resolve(
        "GLBX.MDP3", ["ES.v.0"], "continuous", "instrument_id", date(2025, 12, 1), date(2026, 1, 1)
    )
    assert found == {"ES.v.0": [Interval(date(2025, 12, 1), date(2025, 12, 16), "11")]}
    span = {"start": "2010-06-06T00:00:00.000000000Z", "end": "2025-12-01T00:00:00.000000000Z"}
    client.answer = {**span, "schema": {"ohlcv-1m": {**span, "end": "2025-12-02T10:00:00Z"}}}
    assert vendor.available("GLBX.MDP3", "ohlcv-1m") == (ns("2010-06-06"), ns("2025-12-02T10:00"))
    assert vendor.available("GLBX.MDP3", "trades")[1] == ns("2025-12-01")
