"""Every error that a user can act on, as one tree.

::

    IbsError                      exit code
    ├── DataError                 1   the market data are wrong
    │   └── UnknownSymbolError    1   a symbol that the contract map does not hold
    ├── ConfigError               2   the configuration, the contract map or an option is wrong
    └── EnvironmentFault          3   a file, a permission, a disk or an extra is missing

A message says, in this order: subject, expected, found, where, remedy. It never holds a secret.
Mistakes of our own are ``assert`` and end in a traceback.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ConfigError",
    "DataError",
    "EnvironmentFault",
    "IbsError",
    "UnknownSymbolError",
    "file_faults",
]


class IbsError(Exception):
    """Root of all operating errors.

    Parameters
    ----------
    subject : str
        What is wrong, without a full stop.
    expected, found, where, remedy : str, optional
        The rest of the message; each part that is absent is left out.
    """

    exit_code = 1

    def __init__(
        self,
        subject: str,
        *,
        expected: str = "",
        found: str = "",
        where: str = "",
        remedy: str = "",
    ) -> None:
        self.subject = subject
        self.expected = expected
        self.found = found
        self.where = where
        self.remedy = remedy
        super().__init__(self._message())

    def _message(self) -> str:
        facts = [
            f"expected {self.expected}" if self.expected else "",
            f"found {self.found}" if self.found else "",
            f"in {self.where}" if self.where else "",
        ]
        facts_text = ", ".join(fact for fact in facts if fact)
        text = f"{self.subject}: {facts_text}" if facts_text else self.subject
        return f"{text}; {self.remedy}" if self.remedy else text


class DataError(IbsError):
    """The market data break a law that no repair may hide."""

    exit_code = 1


class UnknownSymbolError(DataError):
    """A symbol is not in the contract map."""


class ConfigError(IbsError):
    """A configuration file, the contract map or a command-line option is wrong."""

    exit_code = 2


class EnvironmentFault(IbsError):
    """A file, a permission, disk space or an optional package is missing."""

    exit_code = 3


@contextmanager
def file_faults(subject: str) -> Iterator[None]:
    """Tell what the system says of files as what a user can act on.

    Parameters
    ----------
    subject : str
        What cannot be done.

    Raises
    ------
    EnvironmentFault
        The disk is full, or a path or its permissions are wrong.
    """
    try:
        yield
    except OSError as error:
        raise EnvironmentFault(
            subject,
            found=error.strerror or str(error),
            where=str(error.filename or ""),
            remedy="check the path, its permissions and the free space",
        ) from error
