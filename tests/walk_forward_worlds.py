"""Bars, stages and runs of the command that walk-forward tests share."""

from __future__ import annotations

from dataclasses import replace

from click.testing import CliRunner

from ibs_core.cli.main import cli
from ibs_core.contracts import load_contract_map
from ibs_core.errors import IbsError
from ibs_core.sweep.stage import Stages

CONTRACTS = load_contract_map()
ROOTS = tuple(root for root in CONTRACTS.contracts if root in ("ES", "CL"))


def run(bars, out, *words, code=0):
    """Run the command; return what it prints, or the error that it ends with."""
    places = ["--parquet", str(bars), "--out", str(out), "--models", str(out.parent / "models")]
    done = CliRunner().invoke(cli, ["walk-forward", *places, "--jobs", "1", *words])
    error = done.exception
    if isinstance(error, IbsError):
        assert code == error.exit_code, error
        return str(error)
    assert done.exit_code == code, (done.output, error)
    return done.output


class Changed:
    """Bars that are of another contract, at other prices, from an instant on."""

    def __init__(self, held, from_ns, factor):
        self._held, self._from_ns, self._factor = held, from_ns, factor

    def __getattr__(self, name):
        return getattr(self._held, name)

    def stream(self, roots=None, *, volume=False):
        yield from self._held.between(until_ns=self._from_ns).stream(roots, volume=volume)
        for run in self._held.between(first_ns=self._from_ns).stream(roots, volume=volume):
            names = ("open", "high", "low", "close")
            prices = {name: getattr(run, name) * self._factor for name in names}
            for each in prices.values():
                each.setflags(write=False)
            yield replace(run, instrument="changed", contract_id=run.contract_id + 1, **prices)


def stages_of(source, roots=ROOTS, span=(None, None), **more):
    """Stages over the bars of a source."""
    return Stages(
        source, CONTRACTS, roots, start=span[0], end=span[1],
        strict=False, progress=lambda _root, _rows: None, **more,
    )  # fmt: skip
