"""How processes log: a line for people, or a JSON object a line with the ids of the work at hand (torch-free).

`LOG_FORMAT` chooses. What is logged while a shard or a training is at work, also by libraries, carries its ids: whoever
begins the work says once what it is `about`. Passwords in addresses are left out of both formats.
"""

import json
import logging
import logging.config
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from evaluator.environment import read_environment

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))

_PASSWORD = re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)|(\bpassword=)[^\s&'\"]+")
"""As it stands in an address, as a part or an option of it, and in what libpq is told."""


@contextmanager
def about(ids: Mapping[str, Any]) -> Iterator[None]:
    """Let every line of this thread and of copies of its context carry `ids`, for the length of a block."""
    token = _about.set({**_about.get(), **ids})
    try:
        yield
    finally:
        _about.reset(token)


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text, with the traceback below it if there is one."""
        return without_passwords(super().format(record))


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time, level, logger, message, the ids of the work at hand, and a traceback's text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_passwords(record.getMessage()),
            **_about.get(),
        }
        if record.exc_info:
            line["exception"] = without_passwords(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
"""By the values of `LOG_FORMAT`."""


def without_passwords(text: str) -> str:
    """Return `text` with asterisks for the passwords of the addresses in it."""
    return _PASSWORD.sub(r"\1\2***", text)


def configuration(level: int | str, levels: Mapping[str, str] = {}) -> dict[str, Any]:
    """Return the settings of `logging.config.dictConfig`: all to standard error, from `level` on or as `levels` say.

    Raises:
        InvalidSetting: an environment variable holds what cannot be used.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"chosen": {"()": FORMATTERS[read_environment().log_format]}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "chosen"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {name: {"level": of_logger, "propagate": True} for name, of_logger in levels.items()},
    }


def set_up(*, loglevel: int = logging.INFO, **_: object) -> None:
    """Configure this process; a receiver of Celery's signal `setup_logging`, which then leaves it to us."""
    logging.config.dictConfig(configuration(loglevel))
    logging.captureWarnings(capture=True)
