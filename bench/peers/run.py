"""Time this project and its peers side by side: the same bars, the same rule, the same trades first.

.venv/bin/python bench/peers/run.py [--rounds N] [--peers vectorbt,backtrader]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from bars import decade, year
from compare import read_trades, verdict

from ibs_core.contracts import load_contract_map

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venv-peers"
BUDGET_S = 30  # no engine is asked again once its runs took this long


@dataclass
class Engine:
    """An engine and how it is run.

    Attributes
    ----------
    name : str
        In the table.
    script : str
    peer : str, optional
        Its environment below `.venv-peers`; default: ours.
    decade : bool
        It can take ten years of twelve symbols at once.
    slow : bool
        Once is enough.
    own_layout : bool
        Reads the file as this project writes it, not as Polars does.
    keeps : bool
        Takes bars that an earlier run kept.
    """

    name: str
    script: str
    peer: str | None = None
    decade: bool = False
    slow: bool = False
    own_layout: bool = False
    keeps: bool = False


HAS_CACHE = importlib.util.find_spec("ibs_core.bar_cache") is not None
ENGINES = [
    Engine("ours", "ours", decade=True),
    Engine("ours, a file in its own layout", "ours", decade=True, own_layout=True),
    *([Engine("ours, bars kept", "ours", decade=True, keeps=True)] if HAS_CACHE else []),
    Engine("Polars and one kernel", "polars", decade=True),
    Engine("Polars' read, nothing else", "read", decade=True),
    Engine("vectorbt", "vectorbt", "vectorbt", decade=True),
    Engine("backtesting.py", "backtesting", "backtesting", decade=True),
    Engine("hftbacktest", "hftbacktest", "hftbacktest"),
    Engine("nautilus_trader", "nautilus_trader", "nautilus_trader", slow=True),
    Engine("zipline-reloaded", "zipline", "zipline", slow=True),
    Engine("backtrader", "backtrader", "backtrader", slow=True),
]


@dataclass
class Contest:
    """One engine at work: its process and what it answered."""

    engine: Engine
    process: subprocess.Popen
    trades: Path
    answers: list[dict] = field(default_factory=list)

    def run(self):
        """Have it run once; return whether it did."""
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            self.answers.append(json.loads(self.process.stdout.readline()))
        except (BrokenPipeError, json.JSONDecodeError):
            return False
        return True

    def seconds(self):
        """Elapsed seconds of each run; the first, which compiles, only where there is no other."""
        return [sum(each["elapsed"].values()) for each in self.counted()]

    def counted(self):
        """Runs that count."""
        return self.answers[1:] or self.answers


def missing(engine):
    """Tell why an engine cannot run, None if it can."""
    if engine.peer and not (ENVIRONMENTS / f"{engine.peer}.stamp").exists():
        return f"{engine.name} is missing: bench/peers/{engine.peer}.txt is not installed here"
    return None


def start(engine, bars, folder):
    """Start an engine's process; it waits for its first turn."""
    home = ENVIRONMENTS / engine.peer if engine.peer else ROOT / ".venv"
    trades = folder / f"{engine.name}.csv"
    kept = {"IBS_PEERS_KEPT": str(folder / "kept")} if engine.keeps else {}
    words = [home / "bin" / "python", f"with_{engine.script}.py", bars, folder / "costs.json"]
    log = (folder / f"{engine.name}.log").open("w", encoding="utf-8")
    process = subprocess.Popen(
        [*map(str, words), str(trades)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": "" if engine.peer else str(ROOT), **kept},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    return Contest(engine, process, trades)


def costs():
    """Write down what trading costs, from our contract map and the rule's settings."""
    rule = yaml.safe_load((HERE / "rule.yml").read_text("utf-8"))["costs"]
    return {
        root: {
            "point_value": contract.point_value_usd,
            "tick": contract.tick_nano / 1e9,
            "commission": rule["commission_per_side"],
            "per_side": rule["commission_per_side"]
            + rule["slippage_ticks"] * contract.tick_value_usd,
        }
        for root, contract in load_contract_map().contracts.items()
    }


def compete(engines, bars, folder, rounds):
    """Compare the trades of all engines, then take them in turn; return the contests, verdicts and failures."""
    contests, failed = [], []
    for engine in engines:
        contest = start(engine, bars[engine.own_layout], folder)
        if contest.run():
            contests.append(contest)
        else:
            tail = (folder / f"{engine.name}.log").read_text("utf-8").splitlines()[-1:]
            failed.append(f"{engine.name} failed: {' '.join(tail)}")
            print(f"  {failed[-1]}", flush=True)
            if engine is engines[0]:
                raise SystemExit("without our own trades there is nothing to compare with")
    ours = read_trades(contests[0].trades)
    agreed = {}
    for contest in contests:
        if contest.engine.script != "read":
            agreed[contest.engine.name] = verdict(ours, read_trades(contest.trades))
            print(f"  {contest.engine.name}: {'; '.join(agreed[contest.engine.name])}", flush=True)
    for _ in range(rounds):
        for contest in contests:
            taken = sum(sum(each["elapsed"].values()) for each in contest.answers[1:])
            if not contest.engine.slow and taken < BUDGET_S:
                contest.run()
    for contest in contests:
        contest.process.stdin.close()
        contest.process.wait()
    return contests, agreed, failed


def table(contests, agreed):
    """Lay the result out as lines of Markdown."""
    ours = statistics.median(contests[0].seconds())
    lines = [
        "| engine | trades | seconds (range) | times ours | of the processor | stages | first run | peak MB |",
        "|" + "---|" * 8,
    ]
    for contest in contests:
        seconds = contest.seconds()
        middle = statistics.median(seconds)
        busy = statistics.median(sum(each["processor"].values()) for each in contest.counted())
        stages = ", ".join(
            f"{stage} {statistics.median(each['elapsed'][stage] for each in contest.counted()):.3g}"
            for stage in contest.answers[0]["elapsed"]
        )
        first = sum(contest.answers[0]["elapsed"].values())
        peak = max(each["peak_mb"] for each in contest.answers)
        lines.append(
            f"| {contest.engine.name} {contest.answers[0]['version']} "
            f"| {'; '.join(agreed.get(contest.engine.name, ['']))} "
            f"| {middle:.3g} ({min(seconds):.3g} to {max(seconds):.3g}, {len(seconds)} runs) "
            f"| {middle / ours:.1f} | {busy:.3g} | {stages} | {first:.3g} | {peak:.0f} |"
        )
    return lines


def machine():
    """Name the class of machine."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, Python {platform.python_version()}"
    )


def main():
    """Run what is installed; print, and write `RESULTS.md` when nothing was left out on purpose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", nargs="*", help="only these")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-decade", action="store_true", help="only the symbol-year")
    given = parser.parse_args()
    wanted = given.peers
    if unknown := set(wanted or ()) - {engine.peer for engine in ENGINES}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    chosen = [each for each in ENGINES if not each.peer or wanted is None or each.peer in wanted]
    absent = [why for each in chosen if (why := missing(each))]
    chosen = [each for each in chosen if not missing(each)]
    for why in absent:
        print(why)
    said = [f"Machine: {machine()}.", *absent]
    stages = [("A symbol-year", year(), chosen)]
    if not given.no_decade:
        able = [each for each in chosen if each.decade]
        stages.append(("Twelve symbols, ten years", decade(), able))
    with tempfile.TemporaryDirectory() as name:
        for title, bars, engines in stages:
            folder = Path(name) / title
            folder.mkdir()
            (folder / "costs.json").write_text(json.dumps(costs()), encoding="utf-8")
            print(f"\n{title}: trades first", flush=True)
            contests, agreed, failed = compete(engines, bars, folder, given.rounds)
            lines = table(contests, agreed)
            print("\n" + "\n".join(lines), flush=True)
            said += ["", f"## {title}", "", *lines, "", *failed]
    if wanted is None and not given.no_decade:
        text = (
            "# Peers, side by side\n\nWritten by `make bench-peers`; method in `docs/peers.md`.\n\n"
        )
        (HERE / "RESULTS.md").write_text(text + "\n".join(said) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
