"""The veto of a window: a model a symbol, of the candidates that the window's parameters make in its training sessions.

The bars are cut where the training sessions end, so no label reaches further: a trade that is open then has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ibs_core.backtest import replay_read
from ibs_core.candidate_table import labelled
from ibs_core.catalogue import resolve
from ibs_core.config import Risk
from ibs_core.errors import DataError
from ibs_core.feature_table import evaluate_read
from ibs_core.training.dataset import Origin, strategies_of
from ibs_core.training.guardrails import check_history
from ibs_core.training.sample import sample_of
from ibs_core.training.train import train_on_all
from ibs_core.universe import Universe
from ibs_core.walk_forward.cut import read_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import polars as pl

    from ibs_core.bundle import Card
    from ibs_core.config import Settings
    from ibs_core.sweep.stage import Stages
    from ibs_core.training.plan import Plan
    from ibs_core.training.train import Trained, Workshop
    from ibs_core.universe import Model
    from ibs_core.walk_forward.fit import Fitted

__all__ = ["Veto", "VetoBench", "fit_vetoes"]


@dataclass(frozen=True, slots=True, eq=False)
class Veto:
    """What came of a symbol's model in a window.

    Attributes
    ----------
    candidates : int
        Of the training sessions, with a label.
    card : Card or None
        None where no model could be made.
    model : Model or None
        None where the test sessions are traded without.
    why : str
        Why they are; else empty.
    """

    candidates: int
    card: Card | None = None
    model: Model | None = None
    why: str = ""

    def facts(self) -> dict[str, Any]:
        """Tell it as JSON values; ``filtered`` and ``base`` are the judgement out of fold, with the veto and without."""
        told: dict[str, Any] = {
            "candidates": self.candidates,
            "trades": self.model is not None,
            "why": self.why,
        }
        if self.card is None:
            return told
        return told | {
            "version": self.card.version,
            "threshold": self.card.threshold,
            "features": list(self.card.features),
            "filtered": _judged(self.card.metrics["out_of_sample"]),
            "base": _judged(self.card.metrics["out_of_sample_base"]),
        }


@dataclass(frozen=True, slots=True, eq=False)
class VetoBench:
    """What the models of every window are made with.

    Attributes
    ----------
    stages : Stages
        Over all sessions, reading what the features do.
    names : tuple of str
        Features to choose from.
    plan : Plan
    candidates_min : int
        With fewer no model is made.
    workshop : Workshop
    data_digest : str
    generated : bool
    opened : callable
        Keeps a model of a window, by number, and opens it for the candidates of settings.
    """

    stages: Stages
    names: tuple[str, ...]
    plan: Plan
    candidates_min: int
    workshop: Workshop
    data_digest: str
    generated: bool
    opened: Callable[[int, Trained, Settings], Model]


def fit_vetoes(bench: VetoBench, fitted: Fitted, roots: Sequence[str]) -> dict[str, Veto]:
    """Train the models of a window.

    Parameters
    ----------
    bench : VetoBench
    fitted : Fitted
    roots : sequence of str
        What has a session up to the training end.

    Returns
    -------
    dict of str to Veto
        By root; empty where no parameters were chosen.

    Raises
    ------
    ConfigError, EnvironmentFault
        As training does. Too few rows and models that fail are no errors: they are told.
    """
    if fitted.candidate is None:
        return {}
    settings = fitted.candidate.settings
    origin = Origin(
        data_digest=bench.data_digest,
        contract_map_digest=bench.stages.contracts.digest,
        strategies=strategies_of(settings, roots),
        generated=bench.generated,
    )
    return {
        root: _fit(bench, fitted, origin, root, frame)
        for root, frame in zip(roots, _candidates(bench, fitted, settings, roots), strict=True)
    }


def _candidates(
    bench: VetoBench, fitted: Fitted, settings: Settings, roots: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Label the candidates of the training sessions, each followed alone."""
    window, contracts = fitted.window, bench.stages.contracts
    assert fitted.candidate is not None
    known = bench.stages.reading(fitted.candidate)
    read = read_until(known, roots, window.train[1], window.train_ends_ns)
    alone = settings.model_copy(update={"risk": Risk()})
    universe = Universe(alone, contracts, start=window.train[0], end=window.train[1])
    traded = replay_read(replace(read, symbols=[universe.get(root) for root in roots]), alone)
    features = [resolve(name, contracts, where="--features") for name in bench.names]
    tables = evaluate_read(read.series, read.feeds, alone, contracts, features, only_full=True)
    for i, table in enumerate(tables):
        yield labelled(traded, i, table)


def _fit(bench: VetoBench, fitted: Fitted, origin: Origin, root: str, frame: pl.DataFrame) -> Veto:
    n, plan = frame.height, bench.plan
    if n < bench.candidates_min:
        bench.workshop.progress(root, plan.n_searches() * plan.trials)
        return Veto(n, why=f"{n} candidates, fewer than {bench.candidates_min}")
    assert fitted.candidate is not None
    sample = sample_of(frame, root, bench.names, bench.workshop.contracts)
    created_ns = fitted.window.train_ends_ns  # the first instant at which it can be made
    try:
        trained = train_on_all(origin, sample, plan, bench.workshop, created_ns=created_ns)
    except DataError as error:
        return Veto(n, why=str(error))
    failed = [each.name for each in check_history(trained.card.metrics) if not each.passed]
    if failed:
        return Veto(n, trained.card, why=f"fails: {', '.join(failed)}")
    model = bench.opened(fitted.window.number, trained, fitted.candidate.settings)
    return Veto(n, trained.card, model)


def _judged(measured: Any) -> dict[str, Any]:
    trades = measured["trades"]
    return {
        "trades": trades,
        "expectancy_usd": measured["net_usd"] / trades if trades else None,
        "sharpe": measured["sharpe_annual"],
    }
