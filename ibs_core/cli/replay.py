"""`ibs replay`: one slice of a journal again: what the worker saw, knew and decided."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (click reads it)
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import journal_parts, options
from ibs_core.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.engine import Engine
    from ibs_core.ports import Stored
    from ibs_core.universe import Symbol

__all__ = ["replay"]


@click.command()
@click.option("--journal", type=options.PATH, required=True, help="SQLite file of `ibs run-live`.")
@click.option("--at", help="The slice at or before this instant, UTC, such as 2025-03-03T15:00.")
@options.as_json
@options.quiet
def replay(*, journal: Path, at: str | None, json_: bool, quiet: bool) -> None:
    """Show what the worker knew and decided at a slice; without --at at the last one."""
    from adapters.sqlite_journal import SqliteJournal

    at_ns = _instant(at)
    if not journal.is_file():
        raise EnvironmentFault(f"journal {journal}", expected="a file", found="none")
    options.compile_notice(silent=json_ or quiet)
    with SqliteJournal(journal, read_only=True) as held:
        facts = _facts(held, at_ns)
    if json_:
        options.say_json(facts)
    elif not quiet:
        _show(facts)


def _instant(text: str | None) -> int:
    import numpy as np

    if text is None:
        return 2**62
    try:
        return int(np.datetime64(text.removesuffix("Z"), "ns").astype(np.int64))
    except ValueError:
        raise ConfigError(
            "option --at", expected="an instant such as 2025-03-03T15:00", found=repr(text)
        ) from None


def _facts(journal: SqliteJournal, at_ns: int) -> dict[str, Any]:
    from ibs_core.cli import live_parts
    from ibs_core.ledger import decisions_frame, line_of, trades_frame
    from ibs_core.market_data.runs import stamp
    from ibs_core.parity import state_after

    facts = live_parts.last_facts(journal)
    settings = live_parts.settings_in(facts)
    contracts = live_parts.contracts_in(facts, settings)
    before, entries = _slice_of(journal, at_ns)
    engine = live_parts.engine_of(settings, contracts, facts["roots"], {})
    state_after(before, entries, engine)
    stored, arrays = entries[-1], entries[-1].arrays
    lines = [
        line_of(each, engine.contracts_of(each.root), settings.costs) for each in engine.symbols
    ]
    decisions = decisions_frame(arrays["decisions"], lines)
    return {
        "time": stamp(stored.time_ns),
        "entry": stored.seq,
        "minutes": len(arrays["minutes"]),
        "bars": _bars(arrays, engine),
        "decisions": decisions.to_dicts(),
        "trades": trades_frame(arrays["trades"], lines).to_dicts(),
        "orders": [
            {
                "order_id": each.order.order_id,
                "action": each.order.action,
                "instrument": each.order.instrument,
                "quantity": each.order.quantity,
                "price": each.order.price,
                "reason": each.order.reason,
                "state": each.state,
            }
            for each in journal.orders()
            if each.seq == stored.seq
        ],
        "told": _told(arrays, engine),
        "rolls": [[root, stamp(at)] for root, at in arrays["seams"].tolist()],
        "blocks": _blocks(engine),
        "positions": [
            each for each in journal_parts.positions_of(engine, lines) if each["status"] != "flat"
        ],
    }


def _slice_of(journal: SqliteJournal, at_ns: int) -> tuple[bytes, list[Stored]]:
    """Return a kept state, and the entries after it up to the last slice by an instant."""
    for seq, time_ns, block in reversed(journal.snapshots()):
        if time_ns > at_ns:
            continue
        entries, last = [], 0
        for stored in journal.entries(seq):
            if stored.time_ns > at_ns:
                break
            entries.append(stored)
            if any(len(stored.arrays[name]) for name in ("roots", "decisions", "trades")):
                last = len(entries)
        if last:
            return block, entries[:last]
    raise DataError(
        "no slice in the journal",
        expected="a bar that closed or a decision by then",
        found="none",
        where=str(journal.path),
    )


def _bars(arrays: Mapping[str, NDArray[Any]], engine: Engine) -> list[dict[str, Any]]:
    """Tell of the bars that closed: prices, the gate that stopped each, features of candidates."""
    from ibs_core.market_data.runs import stamp
    from ibs_core.signals import CANDIDATE

    symbols = {each.root: each for each in engine.symbols}
    found, first = [], 0
    for root, n in zip(arrays["roots"].tolist(), arrays["counts"].tolist(), strict=True):
        rows = iter(arrays.get(f"rows/{root}", ()))
        for i in range(first, first + n):
            bar, seen, model = arrays["bars"][i], arrays["signals"][i], symbols[root].model
            is_candidate = seen["gate"] == CANDIDATE
            told = {
                "symbol": root,
                "start": stamp(int(bar["start_ns"])),
                "end": stamp(int(bar["end_ns"])),
                **{name: float(bar[name]) for name in ("open", "high", "low", "close")},
                "ibs": _number(seen["ibs"]),
                "gate": "" if is_candidate else _gate(int(seen["gate"]), symbols[root]),
                "score": _number(seen["score"]),
                "threshold": model.threshold if model else None,
                "features": {},
            }
            if is_candidate and (row := next(rows, None)) is not None:
                told["features"] = _features(row, symbols[root])
            found.append(told)
        first += n
    return found


def _features(row: NDArray[Any], symbol: Symbol) -> dict[str, float | None]:
    """Name the columns of a candidate: those of the filters come first, those of the model last."""
    filters = list(symbol.strategy.filters)
    features = list(symbol.model.features) if symbol.model else []
    named = dict(zip(filters, row[: len(filters)], strict=True))
    named |= dict(zip(features, row[len(row) - len(features) :], strict=True))
    return {name: _number(value) for name, value in named.items()}


def _gate(code: int, symbol: Symbol) -> str:
    import numpy as np

    from ibs_core.ledger import blocked_counts

    found = blocked_counts(np.array([code], np.int64), list(symbol.strategy.filters))
    return next(iter(found), "not traded")


def _told(arrays: Mapping[str, NDArray[Any]], engine: Engine) -> list[str]:
    """Spell what only live knew."""
    from ibs_core.bars import NEVER
    from ibs_core.market_data.runs import stamp
    from ibs_core.portfolio import FIRST_BLOCK, LIVE_BLOCKS

    roots = [each.root for each in engine.symbols]
    found = []
    for each in arrays["inputs"]:
        kind, until = int(each["kind"]), int(each["until_ns"])
        who = "all" if each["symbol"] < 0 else roots[each["symbol"]]
        what = ("an entry was not delivered", "an operator leaves", "nobody was there")
        name = f"block {LIVE_BLOCKS[kind - FIRST_BLOCK]}" if kind >= FIRST_BLOCK else what[kind]
        if kind >= FIRST_BLOCK and until == NEVER:
            name += " until told otherwise"
        elif kind >= FIRST_BLOCK and until <= each["time_ns"]:
            name += " ends"
        elif until > 0:
            name += f" until {stamp(until)}"
        found.append(f"{who}: {name}")
    return found


def _blocks(engine: Engine) -> dict[str, list[str]]:
    """Name the blocks of entries in force."""
    from ibs_core.portfolio import LIVE_BLOCKS

    found = {}
    for symbol, position in zip(engine.symbols, engine.book, strict=True):
        until = position["blocked_ns"][: len(LIVE_BLOCKS)]
        names = [name for name, ns in zip(LIVE_BLOCKS, until, strict=True) if ns > engine.until_ns]
        if names:
            found[symbol.root] = names
    return found


def _number(value: Any) -> float | None:
    number = float(value)
    return number if number == number else None  # noqa: PLR0124  (NaN)


def _show(facts: Mapping[str, Any]) -> None:
    click.echo(
        f"{facts['time']}, entry {facts['entry']}: {facts['minutes']} minutes since the last"
    )
    for bar in facts["bars"]:
        _show_bar(bar)
    for each in facts["decisions"]:
        click.echo(f"decided: {each['symbol']} {each['action']} {each['reason']}")
    for each in facts["orders"]:
        what = " ".join(filter(None, (each["action"], each["reason"], each["instrument"])))
        click.echo(f"order {each['order_id']}: {what} at {each['price']:g}, {each['state']}")
    for each in facts["trades"]:
        click.echo(f"trade: {each['instrument']} {each['exit_reason']} {each['net_usd']:,.2f} USD")
    for line in (*facts["told"], *(f"{root} rolls at {at}" for root, at in facts["rolls"])):
        click.echo(f"told: {line}")
    for root, names in facts["blocks"].items():
        click.echo(f"entries of {root} blocked: {', '.join(names)}")
    for each in facts["positions"] or ({"symbol": "", "status": "flat", "instrument": ""},):
        what = " ".join(filter(None, (each["symbol"], each["status"], each["instrument"])))
        click.echo(f"position: {what}")


def _show_bar(bar: Mapping[str, Any]) -> None:
    prices = " ".join(f"{bar[name]:g}" for name in ("open", "high", "low", "close"))
    ibs = "" if bar["ibs"] is None else f"  ibs {bar['ibs']:.3f}"
    gate = f"stopped by {bar['gate']}" if bar["gate"] else "candidate"
    click.echo(f"{bar['symbol']} {bar['start']}  {prices}{ibs}  {gate}")
    if bar["score"] is not None:
        click.echo(f"  score {bar['score']:.4f}, threshold {bar['threshold']}")
    for name, value in bar["features"].items():
        click.echo(f"  {name} {'missing' if value is None else format(value, 'g')}")
