"""Who tries batches: this process, others of this machine, or a Dask cluster; joblib divides the work."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import joblib

from ibs_core.errors import EnvironmentFault
from ibs_core.research.processes import processes
from ibs_core.sweep.decision_pass import try_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ibs_core.sweep.decision_pass import Tried
    from ibs_core.sweep.stage import Job, Stage

__all__ = ["Workers", "workers"]


class Workers:
    """Tries batches of candidates.

    Parameters
    ----------
    n_jobs : int
        Processes of this machine, 1: this one, -1: one a core.
    client : distributed.Client, optional
        Of a cluster, which tries them instead.
    """

    def __init__(self, n_jobs: int, client: Any = None) -> None:
        self._client = client
        self.n = sum(client.nthreads().values()) if client else joblib.effective_n_jobs(n_jobs)

    def tried(self, stage: Stage, batches: Sequence[Sequence[Job]]) -> Iterator[list[Tried]]:
        """Try batches that share a stage.

        Parameters
        ----------
        stage : Stage
        batches : sequence of sequence of Job

        Yields
        ------
        list of Tried
            Of one batch, in no certain order of batches.
        """
        if self._client is None and self.n == 1:
            yield from (list(try_jobs(stage, jobs)) for jobs in batches)
            return
        tasks = (joblib.delayed(_tried_there)(stage, jobs) for jobs in batches)
        if self._client is None:
            # Copy on write: the arrays are shared, and writable as compiled code was compiled for.
            yield from processes(self.n, mmap_mode="c", return_as="generator_unordered")(tasks)
            return
        with joblib.parallel_config(backend="dask", client=self._client, scatter=[stage]):
            yield from joblib.Parallel(n_jobs=-1, return_as="generator_unordered")(tasks)


@contextmanager
def workers(n_jobs: int, cluster: str | None) -> Iterator[Workers]:
    """Open what tries candidates.

    Parameters
    ----------
    n_jobs : int
        As `Workers` takes it; a cluster has its own.
    cluster : str or None
        Address of a Dask scheduler, such as ``tcp://127.0.0.1:8786``.

    Yields
    ------
    Workers

    Raises
    ------
    EnvironmentFault
        The extra is missing, the scheduler does not answer, or it has no worker.
    """
    if cluster is None:
        yield Workers(n_jobs)
        return
    with closing(_client(cluster)) as client:
        found = Workers(n_jobs, client)
        if not found.n:
            raise EnvironmentFault(
                f"Dask cluster {cluster}",
                expected="a worker",
                found="none",
                remedy=f"start one: `dask worker {cluster}`",
            )
        yield found


def _client(cluster: str) -> Any:
    try:
        from distributed import Client  # noqa: PLC0415  (an extra, and slow to import)
    except ImportError as error:
        raise EnvironmentFault(
            "--cluster needs an extra", found=str(error), remedy="pip install 'ibs[dask]'"
        ) from error
    try:
        return Client(cluster, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise EnvironmentFault(
            f"Dask cluster {cluster}",
            expected="a scheduler that answers",
            found=str(error).splitlines()[0],
            remedy="check the address and start it: `dask scheduler`",
        ) from error


def _tried_there(stage: Stage, jobs: list[Job]) -> list[Tried]:
    """Try a batch in another process."""
    return list(try_jobs(stage.arrived(), jobs))
