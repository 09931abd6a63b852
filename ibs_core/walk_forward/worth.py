"""What the vetoes of all windows were worth: the same windows traded with them and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl

from ibs_core.report.bootstrap import block_sessions, resampled_sums
from ibs_core.report.curve import session_pnl
from ibs_core.report.run import TOTAL
from ibs_core.report.significance import N_SESSIONS_MIN
from ibs_core.veto_value import CONFIDENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibs_core.bars import Floats
    from ibs_core.walk_forward.out_of_sample import Tested
    from ibs_core.walk_forward.stitch import Stitched

__all__ = ["worth_of"]

_N_RESAMPLES: Final = 10_000


def worth_of(
    tested: Sequence[Tested], stitched: Stitched, without: Stitched, *, seed: int
) -> dict[str, Any]:
    """Compare the stitched run with that of the same parameters without a veto.

    Parameters
    ----------
    tested : sequence of Tested
    stitched, without : Stitched
        Of the same windows and sessions.
    seed : int, >= 0
        Of the resamples.

    Returns
    -------
    dict
        JSON values. ``models`` that traded and ``of`` (windows times symbols); ``with`` and ``without``, each
        ``trades``, ``earned_usd`` (net profit and open P&L) and ``expectancy_usd``; ``value_usd``, their difference;
        ``interval_usd`` and ``share_at_most_zero`` of resamples of its sessions, None below `N_SESSIONS_MIN`.
    """
    vetoes = [veto for each in tested for veto in each.fitted.vetoes.values()]
    sides = {"with": stitched, "without": without}
    found: dict[str, Any] = {
        "models": sum(veto.model is not None for veto in vetoes),
        "of": len(vetoes),
        **{name: _side(side.stats["total"]) for name, side in sides.items()},
    }
    found["value_usd"] = found["with"]["earned_usd"] - found["without"]["earned_usd"]
    return found | _spread(_sessions(stitched) - _sessions(without), seed)


def _side(total: dict[str, Any]) -> dict[str, Any]:
    return {
        "trades": total["trades"],
        "earned_usd": total["net_usd"] + total["open_usd"],
        "expectancy_usd": total["expectancy_usd"],
    }


def _sessions(of: Stitched) -> Floats:
    curve = of.equity.filter(pl.col("symbol") == TOTAL)
    earned: Floats = session_pnl(curve, of.stats["capital_usd"])["pnl_usd"].to_numpy()
    return earned


def _spread(gained: Floats, seed: int) -> dict[str, Any]:
    n = len(gained)
    if n < N_SESSIONS_MIN or not gained.any():
        return {"interval_usd": None, "share_at_most_zero": None}
    block = block_sessions(n)
    sums = resampled_sums(gained[:, None], n_resamples=_N_RESAMPLES, mean_block=block, seed=seed)
    ends = np.quantile(sums, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return {"interval_usd": ends.tolist(), "share_at_most_zero": float((sums <= 0.0).mean())}
