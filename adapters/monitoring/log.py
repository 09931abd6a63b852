"""Notices as a structured log: one line each, for a machine or for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog

from adapters.monitoring.document import document_of, spell

if TYPE_CHECKING:
    from ibs_core.notices import Notice

__all__ = ["Log"]

_LEVELS: Final = {"info": "info", "warning": "warning", "page": "critical"}


class Log:
    """Writes notices to a stream; a `Subscriber`.

    Parameters
    ----------
    stream : text stream
        It stays open when the log is closed.
    form : {"json", "human"}
    """

    def __init__(self, stream: TextIO, form: Literal["json", "human"] = "json") -> None:
        renderer: Any = _as_json
        if form == "human":
            renderer = structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), pad_event_to=0, timestamp_key="time"
            )
        self._logger = structlog.wrap_logger(structlog.PrintLogger(stream), processors=[renderer])
        self._is_json = form == "json"
        self.fault = ""

    def tell(self, notice: Notice) -> None:
        """Write a line.

        Parameters
        ----------
        notice : Notice
        """
        said = document_of(notice)
        level, text = _LEVELS[said.pop("level")], said.pop("text")
        if not self._is_json:
            said = said.pop("facts") | {name: value for name, value in said.items() if value}
        try:
            self._logger.bind().info(text, **said | {"level": level})
        except (OSError, ValueError) as error:  # a full disk, a reader that went away
            self.fault = f"log: {getattr(error, 'strerror', None) or error}"
        else:
            self.fault = ""

    def close(self) -> None:
        """Do nothing: every line is written."""


def _as_json(_logger: object, _method: str, said: dict[str, Any]) -> str:
    return spell(said)
