"""Files become tapes: minutes that the project reads, and the vendor's own DBN files record by record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import databento_dbn
import numpy as np
import zstandard

from adapters.databento_gateway.records import (
    BAR_RECORD,
    BAR_SCHEMA,
    TRADE_RECORD,
    TRADE_SCHEMA,
)
from adapters.databento_gateway.tape import Front, Instrument, Tape, day_of
from ibs_core.bars import DAY_NS, MINUTE_NS
from ibs_core.contract_codes import resolve_code
from ibs_core.errors import DataError, EnvironmentFault
from ibs_core.market_data import base_ns
from ibs_core.market_data.dbn import ZSTD_MAGIC
from ibs_core.market_data.files import reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ibs_core.bars import Ints, Records
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import HeldBars, MinuteRun

__all__ = ["tape_of_dbn", "tape_of_minutes"]

_RECORDS: Final = {BAR_SCHEMA: BAR_RECORD, TRADE_SCHEMA: TRADE_RECORD}
_IDS_A_ROOT: Final = 100_000
_UNNAMED: Final = 50_000  # ids from here on belong to contracts whose delivery is unknown


def tape_of_minutes(bars: HeldBars, dataset: str = "GLBX.MDP3") -> Tape:
    """Make a tape of minute bars; prices as they are, a volume that is unknown as 0.

    Instrument ids depend on contract map and delivery only, so that two tapes agree on them. A root's
    front contract on a UTC day is that of the day's first bar: the one of the session of that date.

    Parameters
    ----------
    bars : HeldBars
    dataset : str
        Roots of other datasets, indexes and reference feeds are left out.

    Returns
    -------
    Tape

    Raises
    ------
    DataError
        No root of the dataset, or bars coarser than a minute.
    """
    roots = [root for root in bars.roots if bars.contracts.get(root).dataset == dataset]
    if not roots:
        raise DataError(
            "nothing to serve", expected=f"bars of {dataset}", found=", ".join(bars.roots)
        )
    instruments: list[Instrument] = []
    fronts: list[Front] = []
    parts: list[Records] = []
    for root in roots:
        runs = list(bars.stream([root], volume=True))
        if base_ns(runs) > MINUTE_NS:
            raise DataError(
                "bars that the schema cannot hold",
                expected=f"minutes, as of {BAR_SCHEMA}",
                found=f"{base_ns(runs) // MINUTE_NS} minutes a bar of {root}",
            )
        by_id = _named(root, runs, bars.contracts)
        instruments += dict.fromkeys(by_id.values())
        ids = [np.full(run.ts_ns.size, by_id[run.contract_id].instrument_id) for run in runs]
        of_id = {each.instrument_id: each for each in by_id.values()}
        fronts += _by_first_bar(
            root, np.concatenate([run.ts_ns for run in runs]), np.concatenate(ids), of_id
        )
        parts += [_bars(run, by_id[run.contract_id].instrument_id) for run in runs]
    groups = dict.fromkeys(bars.contracts.get(root).session for root in roots)
    return Tape(dataset, instruments, fronts, bars=np.concatenate(parts), groups=tuple(groups))


def tape_of_dbn(paths: Iterable[Path | str], contracts: ContractMap) -> Tape:
    """Make a tape of DBN files: every record as it is, ids as the vendor gave them.

    A root's front contract on a UTC day is the file's own where it was asked for by continuous symbol,
    else the outright that traded most on the day before.

    Parameters
    ----------
    paths : Iterable of pathlib.Path or str
        Files of one dataset, ``ohlcv-1m`` or ``trades``, compressed or not.
    contracts : ContractMap

    Returns
    -------
    Tape

    Raises
    ------
    DataError
        Another schema, files of two datasets, or no record.
    EnvironmentFault
        A file is missing, unreadable or cut.
    """
    files = [_read(Path(path)) for path in paths]
    datasets = sorted({header.dataset for header, _ in files})
    records = {
        schema: np.concatenate(own)
        for schema in _RECORDS
        if (own := [each for header, each in files if header.schema == schema])
    }
    if len(datasets) != 1 or sum(map(len, records.values())) == 0:
        raise DataError(
            "nothing to serve",
            expected="records of one dataset",
            found=f"{sum(map(len, records.values()))} records of {', '.join(datasets) or 'none'}",
        )
    bars, trades = records.get(BAR_SCHEMA), records.get(TRADE_SCHEMA)
    tape = Tape(datasets[0], (), (), bars=bars, trades=trades)
    last_day = day_of(tape.last_ns)
    instruments: dict[int, Instrument] = {}
    fronts: list[Front] = []
    for header, _ in files:
        for number, name, first_day in _mappings(header):
            at_ns = first_day * DAY_NS
            instrument = _listed(number, name, contracts, at_ns=at_ns, last_day=last_day)
            instrument = instruments.setdefault(number, instrument)
            if str(header.stype_in) == "continuous":
                fronts.append(Front(instrument.root, first_day, instrument))
    fronts = sorted(set(fronts), key=lambda front: front.first_day)
    fronts = fronts or _by_volume(tape.bars.records, instruments)
    groups = {contracts.get(each.root).session: None for each in instruments.values() if each.root}
    return Tape(
        datasets[0],
        tuple(instruments.values()),
        fronts,
        bars=bars,
        trades=trades,
        groups=tuple(groups),
    )


def _named(root: str, runs: Sequence[MinuteRun], contracts: ContractMap) -> dict[int, Instrument]:
    """Return the instrument of each contract id, those of one delivery as one."""
    last_ns = {run.contract_id: int(run.ts_ns[-1]) for run in runs}
    named = {}
    for run in runs:
        code = resolve_code(run.instrument, contracts, at_ns=last_ns[run.contract_id])
        number = (contracts.order(root) + 1) * _IDS_A_ROOT
        raw_symbol = run.instrument
        if code.year is None or code.month is None:
            number += _UNNAMED + run.contract_id
        else:
            number += 12 * (code.year - 1970) + code.month
            raw_symbol = f"{code.spelling[:-4]}{code.year % 10}"
        last_day = day_of(last_ns[run.contract_id])
        named[run.contract_id] = Instrument(number, raw_symbol, root, run.instrument, last_day)
    return named


def _bars(run: MinuteRun, instrument_id: int) -> Records:
    records = np.zeros(run.ts_ns.size, BAR_RECORD)
    records["length"], records["rtype"] = BAR_RECORD.itemsize // 4, 33
    records["publisher_id"], records["instrument_id"] = 1, instrument_id
    records["ts_event"] = run.ts_ns
    for name in ("open", "high", "low", "close"):
        records[name] = np.rint(getattr(run, name) * 1e9)
    if run.volume is not None:
        records["volume"] = np.nan_to_num(run.volume, nan=0.0)
    return records


def _by_first_bar(
    root: str, ts_ns: Ints, ids: Ints, of_id: Mapping[int, Instrument]
) -> list[Front]:
    day = ts_ns // DAY_NS
    firsts = np.flatnonzero(np.diff(day, prepend=-1))
    changes = firsts[np.flatnonzero(np.diff(ids[firsts], prepend=-1))]
    return [Front(root, int(day[i]), of_id[int(ids[i])]) for i in changes]


def _by_volume(bars: Records, instruments: Mapping[int, Instrument]) -> list[Front]:
    fronts = []
    for root in dict.fromkeys(each.root for each in instruments.values() if each.root):
        numbers = [each.instrument_id for each in instruments.values() if each.root == root]
        own = bars[np.isin(bars["instrument_id"], numbers)]
        days, row = np.unique(own["ts_event"] // np.uint64(DAY_NS), return_inverse=True)
        if not days.size:
            continue
        table = np.zeros((days.size, len(numbers)))
        column = np.searchsorted(np.sort(numbers), own["instrument_id"])
        np.add.at(table, (row, column), own["volume"])
        best = np.sort(numbers)[table.argmax(axis=1)]
        chosen = np.concatenate([best[:1], best[:-1]])  # the first day has none before it
        changes = np.flatnonzero(np.diff(chosen, prepend=-1))
        fronts += [Front(root, int(days[i]), instruments[int(chosen[i])]) for i in changes]
    return fronts


def _listed(
    number: int, name: str, contracts: ContractMap, *, at_ns: int, last_day: int
) -> Instrument:
    try:
        code = resolve_code(name, contracts, at_ns=at_ns)
    except DataError:  # a spread of a parent download, or a root that is not traded here
        return Instrument(number, name, "", name, last_day)
    spelling = name if code.year is None else code.spelling
    return Instrument(number, name, code.root, spelling, last_day)


def _mappings(header: databento_dbn.Metadata) -> list[tuple[int, str, int]]:
    """Return instrument id, symbol and first UTC day of all mappings of a file."""
    epoch = np.datetime64("1970-01-01", "D")
    id_first = str(header.stype_in) == "instrument_id"
    found = []
    for name, intervals in header.mappings.items():
        for each in intervals:
            number, symbol = (name, each["symbol"]) if id_first else (each["symbol"], name)
            day = int((np.datetime64(each["start_date"], "D") - epoch).astype(np.int64))
            if number and symbol:
                found.append((int(number), symbol, day))
    return found


def _read(path: Path) -> tuple[databento_dbn.Metadata, Records]:
    with reading(path):
        content = path.read_bytes()
    try:
        if content[:4] == ZSTD_MAGIC:
            content = _decompressed(content)
        start = 8 + int.from_bytes(content[4:8], "little")
        header = databento_dbn.Metadata.decode(content[:start])
    except (databento_dbn.DBNError, ValueError, zstandard.ZstdError) as error:
        raise _unreadable(path, str(error)) from error
    record = _RECORDS.get(str(header.schema))
    if record is None or header.ts_out:
        raise DataError(
            "wrong Databento schema",
            expected=" or ".join(_RECORDS),
            found=f"{header.schema}{' with ts_out' if header.ts_out else ''}",
            where=str(path),
        )
    n_records, rest = divmod(len(content) - start, record.itemsize)
    records = np.frombuffer(content, record, n_records, start)
    if rest or np.any(records["length"] * 4 != record.itemsize):
        raise _unreadable(path, "a record of another size")
    return header, records


def _decompressed(content: bytes) -> bytes:
    # A stream reader ends silently where a cut file ends; a decompressor knows its frame.
    pieces = []
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        pieces.append(frame.decompress(content))
        if not frame.eof:
            raise ValueError("the end inside a compressed frame")
        content = frame.unused_data
    return b"".join(pieces)


def _unreadable(path: Path, found: str) -> EnvironmentFault:
    return EnvironmentFault(
        "unreadable or truncated file",
        expected="a complete DBN file",
        found=found,
        where=str(path),
        remedy="download it again",
    )
