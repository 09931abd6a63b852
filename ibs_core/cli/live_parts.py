"""The parts of a live worker that every source shares: settings to engine, what a journal must say, a summary."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from ibs_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from adapters.onnx_scorer import Choice
    from adapters.sqlite_journal import SqliteJournal
    from ibs_core.bars import Ints
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.engine import Engine
    from ibs_core.universe import Universe

__all__ = [
    "contracts_in",
    "engine_of",
    "facts_of",
    "last_facts",
    "refuse_generated_model",
    "refuse_generated_models",
    "refuse_other_rule",
    "refuse_second_worker",
    "refuse_unserved",
    "settings_in",
    "summary_of",
    "universe_of",
]


def universe_of(settings: Settings, contracts: ContractMap, scorer: Choice = "auto") -> Universe:
    """Make the symbols of settings, with their models.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap
    scorer : {"auto", "compiled", "onnxruntime"}

    Returns
    -------
    Universe
    """
    from ibs_core.cli.veto_models import models_for
    from ibs_core.universe import Universe

    models = models_for(settings, contracts, scorer)
    return Universe(settings, contracts, start=None, end=None, models=models)


def engine_of(
    settings: Settings,
    contracts: ContractMap,
    roots: Sequence[str],
    seams: Mapping[str, Ints],
    universe: Universe | None = None,
) -> Engine:
    """Make the engine of settings.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap
    roots : sequence of str
        Traded.
    seams : Mapping of str to (n,) int64, UTC ns
    universe : Universe, optional
        Of the same settings, made before.

    Returns
    -------
    Engine
    """
    from ibs_core.engine import Engine

    ordered = [root for root in contracts.contracts if root in roots]
    return Engine(universe or universe_of(settings, contracts), ordered, settings, seams)


def refuse_unserved(engine: Engine, contracts: ContractMap) -> None:
    """Refuse features of what no live service brings: every entry would be blocked without a word.

    Parameters
    ----------
    engine : Engine
    contracts : ContractMap

    Raises
    ------
    ConfigError
    """
    absent = [root for root in engine.reads if root in contracts.reference_feeds]
    if absent:
        raise ConfigError(
            f"features that read {', '.join(absent)}",
            expected="roots of Databento's dataset: nothing brings a reference feed live",
            found="reference feeds",
            remedy="remove the filters, or use a model without such features",
        )


def refuse_generated_models(engine: Engine, settings: Settings, *, armed: bool) -> None:
    """Refuse models that were trained on generated data, unless on paper.

    Parameters
    ----------
    engine : Engine
    settings : Settings
    armed : bool
        Real orders will leave.

    Raises
    ------
    ConfigError
    """
    if armed and settings.model.mode != "off":
        for symbol in engine.symbols:
            refuse_generated_model(symbol.root, settings)


def refuse_generated_model(root: str, settings: Settings) -> None:
    """Refuse a model that was trained on generated data.

    Parameters
    ----------
    root : str
    settings : Settings

    Raises
    ------
    ConfigError
    """
    from ibs_core.bundle import load_bundle
    from ibs_core.cli.veto_models import folder_of_model

    if load_bundle(folder_of_model(root, settings)).card.generated:
        raise ConfigError(
            f"model of {root}",
            expected="one trained on real data, for real orders",
            found="one trained on generated data",
            remedy="leave --armed out, or promote another version",
        )


def facts_of(settings: Settings, contracts: ContractMap, roots: Sequence[str]) -> dict[str, Any]:
    """Tell all that decides what a journal holds, as JSON values.

    Parameters
    ----------
    settings : Settings
    contracts : ContractMap
    roots : sequence of str

    Returns
    -------
    dict of str to Any
        ``config``, ``roots``, ``contract_map_digest``, ``rule`` (the digest of these), ``version``.
        The caller adds ``source``, which says what brought the minutes, and where orders go.
    """
    from ibs_core import __version__
    from ibs_core.config import resolved_yaml

    config = resolved_yaml(settings)
    # How live is operated is no part of the rule: what it led to is in the journal.
    ruled = resolved_yaml(settings.ruled())
    text = f"{ruled}{list(roots)}{contracts.digest}"
    return {
        "config": config,
        "roots": list(roots),
        "contract_map_digest": contracts.digest,
        "rule": hashlib.sha256(text.encode()).hexdigest(),
        "version": __version__,
    }


def refuse_other_rule(journal: SqliteJournal, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with a journal of another configuration or source, or whose orders went elsewhere.

    Parameters
    ----------
    journal : SqliteJournal
    facts : Mapping of str to Any
        Of the run to come: `facts_of`, ``source`` and `live_sink.facts_of_destination`.

    Raises
    ------
    ConfigError
    """
    runs = journal.runs()
    if not runs:
        return
    before = runs[-1].facts
    if before.get("rule") != facts["rule"]:
        raise ConfigError(
            f"journal {journal.path}",
            expected="the configuration, the symbols and the contract map that it was written with",
            found="others",
            remedy="use them, or another --journal when no position is open",
        )
    if before.get("source") != facts["source"]:
        raise ConfigError(
            f"journal {journal.path}",
            expected=f"to go on with {before.get('source')}",
            found=str(facts["source"]),
            remedy="give another --journal",
        )
    route = before.get("route", "file")
    if route != facts["route"]:  # exits of what was opened there would go elsewhere
        raise ConfigError(
            f"journal {journal.path}",
            expected=f"to go on with orders to {route}",
            found=f"orders to {facts['route']}",
            remedy="give the same --route and --armed, or another --journal when no position is open",
        )
    if before.get("kind", facts["kind"]) != facts["kind"]:
        raise ConfigError(
            f"journal {journal.path}",
            expected=f"to go on with route {route} of kind {before['kind']}",
            found=f"kind {facts['kind']}",
            remedy="name the route as it was, or give another --journal when no position is open",
        )
    if before.get("webhook", facts["webhook"]) != facts["webhook"]:
        raise ConfigError(
            f"journal {journal.path}",
            expected=f"to go on with the webhook that route {route} had",
            found="one of another strategy at the receiver",
            remedy="put the former URL back, or give another --journal when no position is open",
        )


def refuse_second_worker(journal: Path) -> None:
    """Refuse a journal to which another process writes.

    Parameters
    ----------
    journal : Path

    Raises
    ------
    EnvironmentFault
    """
    from adapters.sqlite_journal import SqliteJournal, has_writer

    if has_writer(journal):
        SqliteJournal(journal).close()  # says who


def settings_in(facts: Mapping[str, Any]) -> Settings:
    """Read the settings that a journal was written with.

    Parameters
    ----------
    facts : Mapping of str to Any

    Returns
    -------
    Settings
    """
    import yaml

    from ibs_core.config import Settings

    return Settings.model_validate(yaml.safe_load(facts["config"]))


def last_facts(journal: SqliteJournal) -> Mapping[str, Any]:
    """Return what the last run of a journal said of itself.

    Parameters
    ----------
    journal : SqliteJournal

    Returns
    -------
    Mapping of str to Any

    Raises
    ------
    DataError
        The journal holds no run.
    """
    runs = journal.runs()
    if not runs:
        raise DataError("journal holds no run", where=str(journal.path))
    return runs[-1].facts


def contracts_in(facts: Mapping[str, Any], settings: Settings) -> ContractMap:
    """Load the contract map that a journal was written with.

    Parameters
    ----------
    facts : Mapping of str to Any
    settings : Settings

    Returns
    -------
    ContractMap

    Raises
    ------
    DataError
        It is another by now.
    """
    from pathlib import Path

    from ibs_core.contracts import load_contract_map

    contracts = load_contract_map(Path(settings.contract_map) if settings.contract_map else None)
    if contracts.digest != facts["contract_map_digest"]:
        raise DataError(
            "contract map",
            expected=f"the one of the journal, {facts['contract_map_digest'][:12]}",
            found=contracts.digest[:12],
        )
    return contracts


def summary_of(journal: SqliteJournal, engine: Engine, settings: Settings) -> dict[str, Any]:
    """Tell what the last run of a journal came to.

    Parameters
    ----------
    journal : SqliteJournal
    engine : Engine
        Where it stands now.
    settings : Settings

    Returns
    -------
    dict of str to Any
        JSON values: ``trades``, ``net_usd`` after costs, ``open_positions``, ``blocked`` by reason.
    """
    import numpy as np

    from ibs_core.bars import joined
    from ibs_core.ledger import (
        decisions_frame,
        line_of,
        open_positions,
        refused_counts,
        trades_frame,
    )
    from ibs_core.portfolio import DECISION
    from ibs_core.positions import TRADE

    run = journal.runs()[-1].run
    parts = [each.arrays for each in journal.entries() if each.run == run]
    trades = joined([np.zeros(0, TRADE), *(each["trades"] for each in parts)])
    decisions = joined([np.zeros(0, DECISION), *(each["decisions"] for each in parts)])
    lines = [
        line_of(each, engine.contracts_of(each.root), settings.costs) for each in engine.symbols
    ]
    told, named = trades_frame(trades, lines), decisions_frame(decisions, lines)
    blocked = {each.root: refused_counts(named, each.root) for each in engine.symbols}
    return {
        "trades": told.to_dicts(),
        "net_usd": round(float(told["net_usd"].sum()), 2),
        "open_positions": [
            {"symbol": each.symbol, "instrument": each.instrument, "quantity": each.quantity}
            | {"entry_price": each.entry_price}
            for each in open_positions(engine.book, lines)
        ],
        "blocked": {root: counts for root, counts in blocked.items() if counts},
    }
