"""The historical service as a few contracts' bars in memory: answers as the vendor does, in DBN files."""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import databento_dbn
import numpy as np
import zstandard

from adapters.databento_history import Interval
from adapters.databento_live.roster import raw_symbol
from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.market_data.dbn import BAR_FIELDS

RECORD = np.dtype(BAR_FIELDS)


def day_of(ts_ns):
    return date(1970, 1, 1) + timedelta(days=int(ts_ns) // DAY_NS)


def bars_of(number, ts_ns, closes, volume):
    """Make records of one contract; each minute opens and closes at its close."""
    records = np.zeros(len(ts_ns), RECORD)
    records["length"], records["rtype"], records["publisher_id"] = RECORD.itemsize // 4, 33, 1
    records["instrument_id"], records["ts_event"], records["volume"] = number, ts_ns, volume
    for name in ("open", "high", "low", "close"):
        records[name] = np.rint(np.asarray(closes) * 1e9)
    return records


class FileVendor:
    """A `Vendor` of some contracts; counts what is asked and paid for.

    Parameters
    ----------
    contracts : dict of str to records
        ``ESZ2025`` -> bars.
    fronts : dict of str to list of (date, date, str)
        ``ES.v.0`` -> what it stood for.
    """

    def __init__(self, contracts, fronts):
        self.bars = {raw_symbol(name): records for name, records in contracts.items()}
        self.fronts = fronts
        self.fetched = []
        self.cuts = 0
        self.fails_after = None

    def cost_usd(self, request):
        return self.n_records(request) / 1000

    def n_records(self, request):
        return len(self._records(request))

    def fetch(self, request, path):
        if self.fails_after is not None and len(self.fetched) >= self.fails_after:
            raise KeyboardInterrupt
        self.fetched.append(request)
        records = self._records(request)
        span = (day_of(request.start_ns), day_of(request.end_ns) + timedelta(days=1))
        header = databento_dbn.Metadata(
            dataset=request.dataset,
            start=request.start_ns,
            end=request.end_ns,
            stype_in=databento_dbn.SType.RAW_SYMBOL,
            stype_out=databento_dbn.SType.INSTRUMENT_ID,
            schema=databento_dbn.Schema.OHLCV_1M,
            symbols=list(request.symbols),
            partial=[],
            not_found=[],
            mappings=[
                SimpleNamespace(
                    raw_symbol=symbol,
                    intervals=[
                        SimpleNamespace(
                            start_date=span[0], end_date=span[1], symbol=self._number(symbol)
                        )
                    ],
                )
                for symbol in request.symbols
            ],
            version=3,
        ).encode()
        content = header + records[: len(records) - self.cuts].tobytes()
        with path.open("xb") as stream:
            stream.write(zstandard.ZstdCompressor().compress(content))

    def resolve(self, dataset, symbols, stype_in, stype_out, first, until):
        assert dataset == "GLBX.MDP3"
        if (stype_in, stype_out) == ("continuous", "instrument_id"):
            return {
                symbol: [
                    Interval(max(first, start), min(until, stop), self._number(raw_symbol(name)))
                    for start, stop, name in self.fronts[symbol]
                    if start < until and first < stop
                ]
                for symbol in symbols
            }
        assert (stype_in, stype_out) == ("instrument_id", "raw_symbol")
        named = {self._number(symbol): symbol for symbol in self.bars}
        return {number: [Interval(first, until, named[number])] for number in symbols}

    def available(self, dataset, schema):
        del dataset, schema
        every = np.concatenate(list(self.bars.values()))["ts_event"]
        return int(every.min()), int(every.max()) + MINUTE_NS

    def _number(self, symbol):
        return str(int(self.bars[symbol]["instrument_id"][0]))

    def _records(self, request):
        every = np.concatenate([self.bars[symbol] for symbol in request.symbols])
        inside = (every["ts_event"] >= request.start_ns) & (every["ts_event"] < request.end_ns)
        chosen = every[inside]
        return chosen[np.argsort(chosen["ts_event"], kind="stable")]


def rolling_vendor():
    """ES over six weeks with a roll at the session of 2025-12-16; both contracts print throughout."""
    first, last = date(2025, 11, 10), date(2025, 12, 24)
    days = [first + timedelta(days=i) for i in range((last - first).days)]
    opens = [
        (day - date(1970, 1, 1)).days * DAY_NS + 15 * 60 * MINUTE_NS
        for day in days
        if day.weekday() < 5
    ]
    ts_ns = np.concatenate([at + np.arange(90) * MINUTE_NS for at in opens])
    after = ts_ns >= (date(2025, 12, 15) - date(1970, 1, 1)).days * DAY_NS
    closes = 6000 + (np.arange(len(ts_ns)) % 400) * 0.25
    return FileVendor(
        {
            "ESZ2025": bars_of(11, ts_ns, closes, np.where(after, 5, 50)),
            "ESH2026": bars_of(12, ts_ns, closes + 40, np.where(after, 60, 6)),
        },
        {
            "ES.v.0": [
                (date(2025, 9, 16), date(2025, 12, 16), "ESZ2025"),
                (date(2025, 12, 16), date(2026, 3, 17), "ESH2026"),
            ]
        },
    )
