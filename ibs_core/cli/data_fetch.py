"""`ibs data fetch`: minutes of the vendor's history, paid for once, as raw DBN and as Parquet."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.databento_history import Piece, Vendor
    from ibs_core.contracts import ContractMap

__all__ = ["fetch"]

_KEY = "DATABENTO_API_KEY"


@click.command()
@click.option("--symbols", required=True, help="Comma-separated roots.")
@click.option("--start", required=True, help="First session date.")
@click.option("--end", required=True, help="Last session date.")
@click.option(
    "--out", required=True, type=options.PATH, help="Folder for one Parquet file a symbol."
)
@click.option(
    "--raw",
    type=options.PATH,
    help="Folder that keeps the vendor's answers; default: OUT with -dbn after its name.",
)
@click.option(
    "--schema",
    type=click.Choice(["ohlcv-1m", "trades"]),
    default="ohlcv-1m",
    show_default=True,
    help="Trades are kept as raw DBN only.",
)
@click.option("--yes", is_flag=True, help="Pay without a question.")
@options.as_json
@options.quiet
def fetch(
    *,
    symbols: str,
    start: str,
    end: str,
    out: Path,
    raw: Path | None,
    schema: str,
    yes: bool,
    json_: bool,
    quiet: bool,
) -> None:
    """Download history from Databento: tells the cost, asks, then keeps every answer for good."""
    from ibs_core.contracts import load_contract_map

    contracts = load_contract_map()
    roots = options.roots_of(symbols, contracts) or []
    first, last = options.span_of(start, end)
    assert first is not None, "--start is required"
    assert last is not None, "--end is required"
    raw = raw or out.with_name(f"{out.resolve().name}-dbn")
    if raw.resolve().is_relative_to(out.resolve()):
        raise click.UsageError(f"--raw {raw} lies in --out {out}: it would be read as bars, too")
    for folder in (out, raw):
        options.folder_of(folder)
    vendor = _vendor()
    from adapters.databento_history import download, is_complete, make_plan, plan_sessions

    spans = [plan_sessions(contracts.get(root), first, last) for root in roots]
    pieces = make_plan(vendor, contracts, roots, schema, spans)
    counted = [(piece, vendor.n_records(piece.request)) for piece in pieces]
    missing = [(piece, n) for piece, n in counted if n and not is_complete(piece, raw, n)]
    cost_usd = sum(vendor.cost_usd(piece.request) for piece, _ in missing)
    facts = _facts(roots, counted, missing, cost_usd)
    if missing:
        _agree(facts, yes=yes, silent=json_ or quiet)
    total = sum(n for _, n in counted)
    with options.progress_bar("fetching", lambda: total, silent=json_ or quiet) as progress:
        files = download(vendor, counted, raw, progress)
    written = [] if schema == "trades" else _write(files, contracts, roots, spans, out)
    facts |= {"raw": [str(path) for path in files], "files": written}
    if json_:
        options.say_json(facts)
    elif not quiet:
        for each in written:
            click.echo(f"{each['path']}  {each['rows']:,} minutes")
            for line in each["repairs"]:
                click.echo(f"  {line}")
        click.echo(f"raw DBN kept in {raw}; a second run pays for nothing that is there")


def _vendor() -> Vendor:
    from ibs_core.errors import EnvironmentFault

    try:
        from adapters.databento_history import DatabentoVendor
    except ImportError as error:
        raise EnvironmentFault(
            "fetching needs an extra", found=str(error), remedy="pip install 'ibs[live]'"
        ) from error
    return DatabentoVendor(os.environ.get(_KEY, "").strip())


def _facts(
    roots: list[str],
    counted: list[tuple[Piece, int]],
    missing: list[tuple[Piece, int]],
    cost_usd: float,
) -> dict[str, Any]:
    from ibs_core.errors import DataError

    if not any(n for _, n in counted):
        raise DataError(
            "nothing to fetch",
            expected=f"data of {', '.join(roots)}",
            found="none in this span",
            remedy="check --start and --end, and what the account is entitled to",
        )
    record_bytes = {"ohlcv-1m": 56, "trades": 48}
    return {
        "symbols": roots,
        "requests": len(counted),
        "requests_missing": len(missing),
        "records": sum(n for _, n in counted),
        "records_missing": sum(n for _, n in missing),
        "bytes_missing": sum(n * record_bytes[piece.request.schema] for piece, n in missing),
        "cost_usd": round(cost_usd, 4),
    }


def _agree(facts: dict[str, Any], *, yes: bool, silent: bool) -> None:
    told = (
        f"{facts['requests_missing']} of {facts['requests']} requests are to be downloaded: "
        f"{facts['records_missing']:,} records, {facts['bytes_missing'] / 1e6:.1f} MB, "
        f"{facts['cost_usd']:.2f} USD"
    )
    if yes:
        if not silent:
            click.echo(told, err=True)
    elif not sys.stdin.isatty():
        raise click.UsageError(f"{told}; nobody can be asked here: pass --yes to pay")
    else:
        click.confirm(f"{told}. Pay?", abort=True, err=True)


def _write(
    files: list[Path],
    contracts: ContractMap,
    roots: list[str],
    spans: list[tuple[int, int]],
    out: Path,
) -> list[dict[str, Any]]:
    """Write the front contract's minutes of each root, chosen by the roll rule of the contract map."""
    import polars as pl

    from ibs_core.bar_file import write_bars
    from ibs_core.market_data import open_bars
    from ibs_core.parquet_file import environment

    written = []
    with environment("folder", out, "check its permissions and the space on its disk"):
        out.mkdir(parents=True, exist_ok=True)
    for root, (start_ns, end_ns) in zip(roots, spans, strict=True):
        own = [path for path in files if path.name.startswith(f"{root}-")]
        if not own:
            continue
        runs, repairs = open_bars(own, contracts).load(root)
        frames = [
            pl.DataFrame(
                {
                    "ts_event": pl.Series(run.ts_ns).cast(pl.Datetime("ns", "UTC")),
                    "symbol": pl.repeat(run.instrument, run.ts_ns.size, eager=True),
                    "open": run.open,
                    "high": run.high,
                    "low": run.low,
                    "close": run.close,
                    "volume": pl.Series(run.volume).cast(pl.Int64),
                }
            ).filter(pl.Series((run.ts_ns >= start_ns) & (run.ts_ns < end_ns)))
            for run in runs
        ]
        path = out / f"{root}.parquet"
        with environment("file", path, "make room on the disk and run it again"):
            write_bars(frames, path, {"ibs.source": f"Databento {contracts.get(root).dataset}"})
        rows = sum(frame.height for frame in frames)
        written.append({"path": str(path), "rows": rows, "repairs": repairs.lines()})
    return written
