"""The models that a run scores with: bundles verified, sessions opened."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ibs_core.errors import ConfigError, IbsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ibs_core.bundle import Bundle
    from ibs_core.config import Settings
    from ibs_core.contracts import ContractMap
    from ibs_core.universe import Model

__all__ = ["MODELS", "models_for"]

MODELS = Path("models")
"""Where the versions of each symbol stand, one promoted."""


def models_for(settings: Settings, contracts: ContractMap) -> Callable[[str], Model] | None:
    """Return what opens the model of a root; None where the mode is off.

    Parameters
    ----------
    settings : Settings
        ``model.bundle`` names a bundle folder, in which ``{symbol}`` stands for the root; default: the
        promoted version.
    contracts : ContractMap

    Returns
    -------
    callable or None
        Raises ConfigError or DataError for a root without a sound bundle.
    """
    if settings.model.mode == "off":
        return None
    return cache(lambda root: _open(root, settings, contracts))


def _open(root: str, settings: Settings, contracts: ContractMap) -> Model:
    from adapters.onnx_scorer import open_scorer, verify
    from ibs_core.bundle import load_bundle
    from ibs_core.universe import Model

    bundle = load_bundle(_folder(root, settings))
    card = bundle.card
    faults: list[IbsError] = verify(bundle, contracts)
    if faults:
        raise faults[0]
    _refuse_other_rule(root, bundle, settings)
    seen = (card.window.first_decision, card.window.last_label_end)
    return Model(card.version, card.features, card.threshold, open_scorer(bundle), seen)


def _folder(root: str, settings: Settings) -> Path:
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
    """Refuse a model of another symbol, or one whose candidates were bars of another width."""
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
