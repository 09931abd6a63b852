"""`ibs model import`: what a bundle of the reference system says, and its forest where that is asked for."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from ibs_core.cli import options
from ibs_core.cli.model_training import keep
from ibs_core.errors import EnvironmentFault, IbsError

if TYPE_CHECKING:
    from pathlib import Path

    from ibs_core.bundle import Window
    from ibs_core.contracts import ContractMap
    from ibs_core.training.reference_bundle import Described

__all__ = ["import_"]


@click.command("import")
@click.argument("path", type=options.PATH, metavar="FOLDER|JSON")
@options.models_folder
@click.option(
    "--unpickle-trusted",
    "trusted",
    is_flag=True,
    help="Open SYMBOL_rf_model.pkl too and write its bundle. A pickle runs what its maker wrote "
    "into it: only for files that you vouch for.",
)
@click.option(
    "--signal-bar",
    type=click.Choice(["1m", "5m", "15m", "30m", "1h", "4h", "1d"]),
    default="1h",
    show_default=True,
    help="The bars that the model was trained on.",
)
@click.option(
    "--start",
    default="2010-01-01",
    show_default=True,
    help="First date that the model may have seen.",
)
@click.option(
    "--end", default="2024-12-31", show_default=True, help="Last date that the model may have seen."
)
@options.config_files
@options.as_json
@options.quiet
def import_(
    *,
    path: Path,
    models: Path,
    trusted: bool,
    signal_bar: str,
    start: str,
    end: str,
    config: tuple[Path, ...],
    json_: bool,
    quiet: bool,
) -> None:
    """Read SYMBOL_best.json of the reference system: every feature by its name here, or why not.

    With --unpickle-trusted the forest beside it becomes a bundle, when each of its features is one here.
    """
    from ibs_core.training.reference_bundle import describe, find_bundles

    contracts = options.contract_map_of(config)
    window = _window(start, end)
    told: list[dict[str, Any]] = []
    faults: list[IbsError] = []
    for each in find_bundles(path):
        try:
            described = describe(each, contracts)
            facts = _facts(described)
            try:
                facts["forest"] = _forest(
                    described, contracts, window, models, signal_bar, trusted=trusted
                )
            except IbsError as error:
                facts["forest"] = {"state": "refused", "why": str(error), "bundle": None}
                faults.append(error)
            told.append(facts)
        except IbsError as error:
            faults.append(error)
    if json_:
        options.say_json({"read": told, "faults": [str(fault) for fault in faults]})
    elif not quiet:
        for facts in told:
            _print(facts)
    if faults:
        for fault in faults[1:]:
            click.echo(f"error: {fault}", err=True)
        raise faults[0]


def _window(start: str, end: str) -> Window:
    """Span whole days of UTC; a session that ends on the last one is in it."""
    import numpy as np

    from ibs_core.bundle import Window

    first, last = (np.datetime64(str(each), "D") for each in options.span_of(start, end))
    begin, stop = (each.astype("datetime64[ns]").astype(np.int64) for each in (first, last + 1))
    return Window(first_decision=int(begin), last_label_end=int(stop))


def _facts(described: Described) -> dict[str, Any]:
    """Tell what the JSON says, as JSON values."""
    facts = asdict(described) | {"path": str(described.path), "pickle": str(described.pickle)}
    return facts | {"columns": list(facts["columns"]), "notes": list(facts["notes"])}


def _forest(
    described: Described,
    contracts: ContractMap,
    window: Window,
    models: Path,
    signal_bar: str,
    *,
    trusted: bool,
) -> dict[str, Any]:
    """Import the forest where that was asked for; else tell whether it could be."""
    from ibs_core.bundle import read_file

    nothing = {"bundle": None}
    if not described.pickle.exists():
        return nothing | {"state": "absent", "why": f"no {described.pickle.name} beside the JSON"}
    if not trusted:
        missing = ", ".join(each.name for each in described.columns if each.feature is None)
        try:
            read_file(described.pickle)
        except EnvironmentFault as fault:
            return nothing | {"state": "unreadable", "why": str(fault)}
        why = described.scaled or (f"no feature here: {missing}" if missing else "")
        if why:
            return nothing | {"state": "unfit", "why": why}
        return nothing | {"state": "not opened", "why": "--unpickle-trusted opens it"}
    options.folder_of(models)
    try:
        from ibs_core.training.reference_forest import import_forest
    except ImportError as error:
        raise EnvironmentFault(
            "importing a forest needs an extra",
            found=str(error),
            remedy="pip install 'ibs[train]'",
        ) from error
    from adapters.onnx_scorer import OnnxScorer

    trained = import_forest(
        described,
        contracts,
        window,
        signal_bar=signal_bar,
        open_model=OnnxScorer,
        created_ns=time.time_ns(),
    )
    folder = keep(models, trained)
    says = trained.card.model_dump(mode="json")["metrics"]["imported"]
    return {
        "state": "imported",
        "why": "it has no result out of sample, so only `ibs model promote --force` makes it trade",
        "bundle": str(folder),
        "notes": says["notes"],
    }


def _print(facts: dict[str, Any]) -> None:
    """Print what was read of one bundle."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from ibs_core.training.reference_bundle import JUDGED_ON
    from ibs_core.training.reference_names import MARKS

    console = options.console()
    table = Table(
        title=escape(f"{facts['symbol']}: {facts['path']}"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for head in ("there", "here", "marks", "what differs"):
        table.add_column(head)
    for each in facts["columns"]:
        here = each["feature"] or "-"
        table.add_row(escape(each["name"]), here, each["marks"], each["why"] or each["differs"])
    console.print(table)
    used = {mark for each in facts["columns"] for mark in each["marks"]}
    forest = facts["forest"]
    bundle = f": {forest['bundle']}" if forest["bundle"] else ""
    notes = [each for each in forest.get("notes", facts["notes"]) if each != JUDGED_ON]
    for line in (
        *(f"{mark} {meaning}" for mark, meaning in MARKS.items() if mark in used),
        f"threshold {facts['threshold']:g}; {_spelt(facts['parameters'])}",
        f"{JUDGED_ON}: {_spelt(facts['claimed'])}",
        *(f"note: {each}" for each in notes),
        f"forest {forest['state']}{bundle}; {forest['why']}",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _spelt(values: dict[str, Any]) -> str:
    plain = {key: each for key, each in values.items() if not isinstance(each, dict | list)}
    return ", ".join(f"{key} {each}" for key, each in plain.items()) or "nothing"
