"""The conditions of promotion, checked on what a model achieved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ibs_core.bundle import Guardrail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ibs_core.bundle import Card

__all__ = ["check_guardrails", "check_history"]

_AT_LEAST: Final = (
    ("trades", ("out_of_sample", "trades"), 500.0),
    ("positive eras of five", ("out_of_sample", "eras_positive"), 4.0),
    ("deflated Sharpe ratio", ("luck", "dsr"), 0.95),
    ("holdout: how sure it is that the vetoes helped", ("holdout", "sure_to_help"), 0.9),
)
_AGAINST_BASE: Final = (
    ("net USD above the unfiltered base", "net_usd"),
    ("Sharpe ratio per session above the unfiltered base", "sharpe_per_session"),
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
    found.append(_profit_factor(card.metrics))
    sides = [("holdout", each) for each in ("filtered", "base")]
    found += _against_base(card.metrics, *sides, where="holdout: ")
    return tuple(found)


def check_history(metrics: Mapping[str, Any]) -> tuple[Guardrail, ...]:
    """Check what can be asked of a model that has no holdout: that out of fold it earned, and that it helped.

    Parameters
    ----------
    metrics : mapping
        Of its card.

    Returns
    -------
    tuple of Guardrail
        A value that is lacking fails.
    """
    sides = (("out_of_sample",), ("out_of_sample_base",))
    return _profit_factor(metrics), *_against_base(metrics, *sides, where="")


def _profit_factor(metrics: Mapping[str, Any]) -> Guardrail:
    value = _number(metrics, "out_of_sample", "profit_factor")
    passed = value is not None and value > 1.0
    return Guardrail(name="profit factor after costs", achieved=value, limit=1.0, passed=passed)


def _against_base(
    metrics: Mapping[str, Any], filtered: Sequence[str], base: Sequence[str], *, where: str
) -> list[Guardrail]:
    found = []
    for name, key in _AGAINST_BASE:
        mine, plain = (_number(metrics, *side, key) for side in (filtered, base))
        value = None if mine is None or plain is None else mine - plain
        passed = value is not None and value > 0
        found.append(Guardrail(name=where + name, achieved=value, limit=0.0, passed=passed))
    return found


def _number(metrics: Mapping[str, Any], *path: str) -> float | None:
    value: Any = metrics
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None
