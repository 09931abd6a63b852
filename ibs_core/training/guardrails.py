"""The conditions of promotion, checked on what a model achieved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibs_core.bundle import Guardrail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ibs_core.bundle import Card

__all__ = ["check_guardrails"]

_AT_LEAST: Final = (
    ("trades", ("out_of_sample", "trades"), 500.0),
    ("positive eras of five", ("out_of_sample", "eras_positive"), 4.0),
    ("deflated Sharpe ratio", ("luck", "dsr"), 0.95),
    ("holdout: how sure it is that the vetoes helped", ("holdout", "sure_to_help"), 0.9),
)
_ABOVE: Final = (("profit factor after costs", ("out_of_sample", "profit_factor"), 1.0),)
_AGAINST_BASE: Final = (
    ("holdout: net USD above the unfiltered base", "net_usd"),
    ("holdout: Sharpe ratio per session above the unfiltered base", "sharpe_per_session"),
)


def check_guardrails(card: Card) -> tuple[Guardrail, ...]:
    """Check what a card reports against the conditions of promotion.

    Parameters
    ----------
    card : Card

    Returns
    -------
    tuple of Guardrail
        A value that the card lacks fails.
    """
    found = []
    for name, path, limit in _AT_LEAST:
        value = _number(card.metrics, *path)
        passed = value is not None and value >= limit
        found.append(Guardrail(name=name, achieved=value, limit=limit, passed=passed))
    for name, path, limit in _ABOVE:
        value = _number(card.metrics, *path)
        passed = value is not None and value > limit
        found.append(Guardrail(name=name, achieved=value, limit=limit, passed=passed))
    for name, key in _AGAINST_BASE:
        filtered = _number(card.metrics, "holdout", "filtered", key)
        base = _number(card.metrics, "holdout", "base", key)
        value = None if filtered is None or base is None else filtered - base
        passed = value is not None and value > 0
        found.append(Guardrail(name=name, achieved=value, limit=0.0, passed=passed))
    return tuple(found)


def _number(metrics: Mapping[str, Any], *path: str) -> float | None:
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None
