"""What one minute, one signal bar and one slice cost, against a plain compiled loop."""

from __future__ import annotations

import numpy as np
from conftest import in_turn, tell

from ibs_core.bars import BAR, PATH, SESSION
from ibs_core.kernels import aggregate
from ibs_core.kernels._jit import jit
from ibs_core.series import make_plan

HOUR_NS = 3600 * 10**9
N_MINUTES = 300_000


@jit
def _calibration(x):
    """Run a dependent chain of float64 operations, ten a value: the machine's own pace."""
    value = 1.0
    for i in range(len(x)):
        for _ in range(10):
            value = value * 0.5 + x[i]
    return value


def test_aggregation_of_a_minute(benchmark, capsys):
    rng = np.random.default_rng(0)
    close = 5000 + np.cumsum(rng.integers(-2, 3, N_MINUTES)) * 0.25
    ts = np.arange(N_MINUTES) * 60 * 10**9 + 1_704_067_200 * 10**9
    opens = np.arange(ts[0] - 24 * HOUR_NS, ts[-1] + 48 * HOUR_NS, 24 * HOUR_NS)
    sessions = np.zeros(len(opens), SESSION)
    sessions["open_ns"] = opens
    for name in ("close_ns", "break_start_ns", "break_end_ns"):
        sessions[name] = opens + 23 * HOUR_NS
    plan = make_plan(HOUR_NS, with_path=False, mark_ns=0, allow_nonpositive=False)
    bars, days = np.zeros(N_MINUTES, BAR), np.zeros(N_MINUTES, BAR)

    def run():
        state, n = aggregate.new_state(), np.zeros(3, np.int64)
        columns = (close, close + 0.5, close - 0.5, close)
        rest = (np.zeros(0), bars, days, np.zeros(0, PATH), n)
        assert aggregate.step(state[0], plan[0], sessions, ts, *columns, *rest) < 0

    run()
    _calibration(close)
    ours, pace = in_turn(run, lambda: _calibration(close), rounds=15)
    benchmark.extra_info["ratio_to_calibration"] = ours / pace
    benchmark(run)
    tell(
        capsys,
        f"aggregate {ours / N_MINUTES * 1e9:.1f} ns a minute, {ours / pace:.2f}x the calibration",
    )
    assert ours / pace <= 2.0
