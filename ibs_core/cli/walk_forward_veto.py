"""The veto of `ibs walk-forward`: what the command may be told of it, and what fits it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from click.core import ParameterSource

from ibs_core.cli import options
from ibs_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.market_data import BarSource
    from ibs_core.sweep.run import Record
    from ibs_core.sweep.stage import Stages
    from ibs_core.training.plan import Plan
    from ibs_core.training.train import Trained
    from ibs_core.universe import Model
    from ibs_core.walk_forward.veto import VetoBench

__all__ = ["bench_of", "features_asked", "n_trials", "refuse_idle", "veto_options"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_OF_VETO: Final = (
    ("--features", str, None, "Comma-separated features to choose from; default: all for models."),
    ("--veto-trials", click.IntRange(min=1), 4, "Of each search of a window."),
    ("--veto-trees", str, "100,200", "Numbers of trees to try."),
    ("--veto-min-leaf", str, "20,50", "Fewest rows of a leaf to try."),
    ("--veto-keep", str, "10,20", "Numbers of features to try, the most important first."),
    ("--veto-groups", click.IntRange(min=2), 4, "Groups of sessions that judge a model."),
    ("--veto-embargo", click.IntRange(min=0), 2, "Sessions beside a judged group not trained on."),
    (
        "--veto-candidates",
        click.IntRange(min=40),
        400,
        "Fewest candidates of a symbol; with fewer its window trades without a veto.",
    ),
    ("--veto-seed", click.IntRange(0, 2**31 - 1), 7, "The same seed makes the same models."),
)


def veto_options(function: _F) -> _F:
    """Add ``--veto`` and what belongs to it."""
    for name, kind, default, meaning in reversed(_OF_VETO):
        shown = default is not None
        add = click.option(name, type=kind, default=default, show_default=shown, help=meaning)
        function = add(function)
    return click.option(
        "--veto", is_flag=True, help="Train a veto model for each symbol in every window too."
    )(function)


def refuse_idle(asked: dict[str, Any]) -> None:
    """Refuse options of a veto that is not wanted; drop their defaults."""
    if asked["veto"]:
        return
    source = click.get_current_context().get_parameter_source
    options_of = {option.removeprefix("--").replace("-", "_"): option for option, *_ in _OF_VETO}
    given = [each for key, each in options_of.items() if source(key) is ParameterSource.COMMANDLINE]
    if given:
        raise click.UsageError(f"{', '.join(given)}: only with --veto")
    for key in options_of:
        del asked[key]


def plan_of(asked: dict[str, Any], *, jobs: int) -> Plan:
    """Make the plan of every training."""
    from ibs_core.cli.model_training import whole_numbers
    from ibs_core.training.plan import Plan, Space

    space = Space(
        trees=whole_numbers("--veto-trees", asked["veto_trees"]),
        min_leaf=whole_numbers("--veto-min-leaf", asked["veto_min_leaf"]),
        keep=whole_numbers("--veto-keep", asked["veto_keep"]),
    )
    fewest = asked["veto_candidates"]
    return Plan(
        trials=asked["veto_trials"],
        groups=asked["veto_groups"],
        test_groups=1,
        embargo=asked["veto_embargo"],
        seed=asked["veto_seed"],
        n_train_min=fewest // 4,
        n_test_min=fewest // 20,
        n_selected_min=fewest // 20,
        screen_trees=min(100, *space.trees),
        space=space,
        jobs=jobs,
    )


def n_trials(asked: dict[str, Any]) -> int:
    """Count the trials of one symbol in one window."""
    plan = plan_of(asked, jobs=1)
    return plan.n_searches() * plan.trials


def features_asked(text: str | None, source: BarSource, contracts: ContractMap) -> tuple[str, ...]:
    """Name the features that models may choose from: those asked for, else all that the bars serve."""
    from ibs_core.catalogue import load_catalogue, resolve
    from ibs_core.feature_table import served

    can = served(contracts, source.roots, source.feeds)
    names = options.features_of(text)
    if names is None:
        return tuple(name for name in can if load_catalogue(contracts)[name].for_models)
    for name in names:
        if not resolve(name, contracts, where="--features").for_models or name not in can:
            raise ConfigError(
                "--features",
                expected="features for models that the bars serve",
                found=f"{name}, {'a price level' if name in can else 'without its bars'}",
                remedy="leave it out, or add the bars that it reads",
            )
    return tuple(names)


def bench_of(
    asked: dict[str, Any],
    stages: Stages,
    record: Record,
    names: tuple[str, ...],
    places: tuple[Path, Path],
    *,
    jobs: int,
    progress: Callable[[str, int], None],
) -> VetoBench:
    """Lay out what trains the models of all windows: their bundles go below the windows, searches to the ledger."""
    from adapters.onnx_scorer import OnnxScorer
    from ibs_core.cli.model_training import keep
    from ibs_core.cli.veto_models import open_model
    from ibs_core.training.train import Workshop
    from ibs_core.walk_forward.veto import VetoBench

    windows, models = places

    def opened(number: int, trained: Trained, settings: Settings) -> Model:
        folder = keep(windows / f"{number:03d}" / "models", trained)
        return open_model(folder, trained.card.symbol, settings, stages.contracts)

    return VetoBench(
        stages,
        names,
        plan_of(asked, jobs=jobs),
        asked["veto_candidates"],
        Workshop(
            contracts=stages.contracts,
            ledger=record.ledger,
            studies=models / "searches.sqlite",
            open_model=OnnxScorer,
            clock=record.clock,
            progress=progress,
        ),
        record.data_digest,
        record.generated,
        opened,
    )
