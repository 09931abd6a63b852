"""The models that a run scores with: bundles verified, sessions opened."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibs_core.errors import ConfigError, IbsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from adapters.onnx_scorer import Choice
    from ibs_core.bundle import Bundle, Card
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.explain import Explainer
    from ibs_core.universe import Model

__all__ = ["MODELS", "explainer_of", "folder_of_model", "models_for", "open_model"]

MODELS = Path("models")
"""Where the versions of each symbol stand, one promoted."""


def models_for(
    settings: Settings, contracts: ContractMap, scorer: Choice = "auto"
) -> Callable[[str], Model] | None:
    """Return what opens the model of a root; None where the mode is off.

    Parameters
    ----------
    settings : Settings
        ``model.bundle`` names a bundle folder, in which ``{symbol}`` stands for the root; default: the
        promoted version.
    contracts : ContractMap
    scorer : {"auto", "compiled", "onnxruntime"}
        What scores; the scores are the same bits.

    Returns
    -------
    callable or None
        Raises ConfigError or DataError for a root without a sound bundle.
    """
    if settings.model.mode == "off":
        return None
    return cache(lambda root: _open(root, settings, contracts, scorer))


def explainer_of(root: str, settings: Settings) -> Explainer:
    """Return what explains the scores of the model that `models_for` opens.

    Parameters
    ----------
    root : str
    settings : Settings

    Returns
    -------
    Explainer
    """
    from ibs_core.bundle import load_bundle
    from ibs_core.explain import Explainer

    return Explainer(load_bundle(folder_of_model(root, settings)).model)


def _open(root: str, settings: Settings, contracts: ContractMap, choice: Choice) -> Model:
    return open_model(folder_of_model(root, settings), root, settings, contracts, choice)


def open_model(
    folder: Path, root: str, settings: Settings, contracts: ContractMap, choice: Choice = "auto"
) -> Model:
    """Open a bundle as the model of a root.

    Parameters
    ----------
    folder : Path
        Of the bundle.
    root : str
    settings : Settings
        Whose candidates it will score.
    contracts : ContractMap
    choice : {"auto", "compiled", "onnxruntime"}
        What scores.

    Returns
    -------
    Model

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
        It is not sound, or not a model of these candidates.
    """
    from adapters.onnx_scorer import choose_scorer, verify
    from ibs_core.bundle import load_bundle
    from ibs_core.universe import Model

    bundle = load_bundle(folder)
    card = bundle.card
    faults: list[IbsError] = verify(bundle, contracts)
    if faults:
        raise faults[0]
    _refuse_other_rule(root, bundle, settings)
    seen = (card.window.first_decision, card.window.last_label_end)
    scorer, why = choose_scorer(bundle, choice)
    notes = tuple(_notes(card, settings, contracts, why))
    return Model(card.version, card.features, card.threshold, scorer, seen, notes)


def folder_of_model(root: str, settings: Settings) -> Path:
    """Find the bundle of a root.

    Parameters
    ----------
    root : str
    settings : Settings

    Returns
    -------
    Path

    Raises
    ------
    ConfigError
        No version is promoted.
    """
    from ibs_core.bundle import promoted

    if settings.model.bundle is not None:
        return Path(settings.model.bundle.replace("{symbol}", root))
    found = promoted(MODELS, root)
    if found is None:
        raise ConfigError(
            f"model of {root}",
            expected=f"a promoted version in {MODELS}/{root}",
            found="none",
            remedy=f"promote one (`ibs model promote {root} VERSION`), name model.bundle, or use --model-mode off",
        )
    return found


def _refuse_other_rule(root: str, bundle: Bundle, settings: Settings) -> None:
    """Refuse a model of another symbol, or one whose candidates were bars of another width.

    A feature of hourly bars is another number on bars of five minutes. Other differences of the rule leave
    every feature what it was and shift the population only: they are told (`_notes`).
    """
    card, strategy = bundle.card, settings.strategy_of(root)
    if card.symbol != root:
        raise ConfigError(
            f"model of {root}", expected=f"a bundle of {root}", found=f"one of {card.symbol}"
        )
    width = card.strategy.get("signal_bar", strategy.signal_bar)
    if width != strategy.signal_bar:
        raise ConfigError(
            f"model of {root}, version {card.version}",
            expected=f"one trained on {strategy.signal_bar} bars",
            found=f"{width} bars",
            remedy="train one with this strategy, or set strategy.signal_bar",
        )


def _notes(card: Card, settings: Settings, contracts: ContractMap, why: str) -> Iterator[str]:
    """Tell where the candidates that the model was trained on differ from those that it will score.

    Also why it is not scored compiled, if it is not.
    """
    model = f"model of {card.symbol}, version {card.version},"
    present = settings.strategy_of(card.symbol).model_dump(mode="json", by_alias=True)
    if not card.strategy:
        yield f"{model} does not say by which rule its candidates were made"
    elif changes := list(_changes(card.strategy, present)):
        yield f"{model} was trained on candidates of another rule: {'; '.join(changes)}"
    if card.contract_map_digest != contracts.digest:
        yield f"{model} was trained with another contract map"
    if why:
        yield f"{model} is scored by onnxruntime, which takes several times as long: {why}"


def _changes(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Name what makes other candidates or labels: entry, filters, exits.

    A cooldown follows from the position, and candidates and labels know none. A key of the entry or
    the exits that the card lacks is one of which it says nothing; a filter that it lacks was not set.
    """
    for section in ("entry", "filters", "exits"):
        old, new = then.get(section), now[section]
        if not isinstance(old, dict):
            continue
        shared = old.keys() | new.keys() if section == "filters" else old.keys() & new.keys()
        for key in sorted(shared):
            if old.get(key) != new.get(key):
                yield f"{section}.{key} {_spelt(old.get(key))} -> {_spelt(new.get(key))}"


def _spelt(value: Any) -> str:
    return "none" if value is None else json.dumps(value).replace('"', "")
