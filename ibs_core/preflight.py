"""Checks before a start: each has a name, runs once, and says what it found and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ibs_core.errors import ConfigError, DataError, EnvironmentFault, IbsError
from ibs_core.secret import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["Check", "Found", "Result", "details_of", "refuse_failed", "run_checks"]

Verdict = Literal["passed", "warning", "skipped"]


class Found(NamedTuple):
    """What a check that did not fail found; a failure is raised.

    Parameters
    ----------
    found : str
    remedy : str
        What to do, beside a warning.
    verdict : {"passed", "warning", "skipped"}
    """

    found: str
    remedy: str = ""
    verdict: Verdict = "passed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Parameters
    ----------
    name : str
    run : callable
        Returns a `Found`; whatever it raises is a failure.
    """

    name: str
    run: Callable[[], Found]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check.

    Parameters
    ----------
    name : str
    verdict : {"passed", "warning", "failed", "skipped"}
    found : str
    remedy : str
        What to do; empty where there is nothing to do.
    exit_code : int
        Of the error that the failure is; 0 for the others.
    """

    name: str
    verdict: Verdict | Literal["failed"]
    found: str
    remedy: str = ""
    exit_code: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def run_checks(
    checks: Sequence[Check],
    *,
    fail_fast: bool,
    skip: Collection[str] = (),
    tell: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Run checks in order.

    Parameters
    ----------
    checks : sequence of Check
    fail_fast : bool
        End with the first failure; what follows has no result.
    skip : collection of str
        Names of checks that are not run.
    tell : callable, optional
        Takes each result as soon as it is there.

    Returns
    -------
    list of Result

    Raises
    ------
    ConfigError
        `skip` names something else than a check.
    """
    names = [each.name for each in checks]
    for name in skip:
        if name not in names:
            raise ConfigError(
                "checks to skip",
                expected="names of checks",
                found=shown(name),
                remedy=f"there are {', '.join(names)}",
            )
    results = []
    for check in checks:
        result = Result(check.name, "skipped", "as asked") if check.name in skip else _run(check)
        results.append(result)
        if tell is not None:
            tell(result)
        if fail_fast and result.verdict == "failed":
            break
    return results


def _run(check: Check) -> Result:
    try:
        found = check.run()
    except IbsError as error:
        text = str(error).removesuffix(f"; {error.remedy}") if error.remedy else str(error)
        remedy = error.remedy or f"docs/preflight.md tells more of the check {check.name}"
        return Result(check.name, "failed", text, remedy, error.exit_code)
    except OSError as error:  # its text may hold a path, never a secret
        text = f"the system refused: {error.strerror or type(error).__name__}"
        remedy = "check files, permissions and the network"
        return Result(check.name, "failed", text, remedy, EnvironmentFault.exit_code)
    except Exception as error:  # noqa: BLE001  (whatever it is, nothing starts; its text may hold a secret)
        text = f"the check broke: {type(error).__name__}"
        return Result(check.name, "failed", text, "report it", DataError.exit_code)
    return Result(check.name, found.verdict, found.found, found.remedy)


def details_of(results: Sequence[Result], checked_at: str) -> dict[str, Any]:
    """Tell a monitor what came of all checks.

    Parameters
    ----------
    results : sequence of Result
    checked_at : str
        When, for people and machines.

    Returns
    -------
    dict of str to Any
        ``status`` (skipped, passed, failed), ``checked_at``, ``failed_checks``.
    """
    failed = [each.name for each in results if each.verdict == "failed"]
    ran = any(each.verdict != "skipped" for each in results)
    status = "failed" if failed else "passed" if ran else "skipped"
    return {"status": status, "checked_at": checked_at, "failed_checks": failed}


def refuse_failed(results: Sequence[Result]) -> None:
    """Refuse to start when a check failed.

    Parameters
    ----------
    results : sequence of Result

    Raises
    ------
    ConfigError, DataError, EnvironmentFault
        As the first failure was.
    """
    failed = [each for each in results if each.verdict == "failed"]
    if not failed:
        return
    first = failed[0]
    others = f" ({len(failed) - 1} more failed)" if len(failed) > 1 else ""
    kinds = {each.exit_code: each for each in (ConfigError, DataError, EnvironmentFault)}
    raise kinds[first.exit_code](
        f"preflight check {first.name} failed{others}: {first.found}", remedy=first.remedy
    )
