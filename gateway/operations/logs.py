"""The service's log: a JSON object a line on standard error, with nothing personal in it.

What a line may hold: ids of requests and keys, departments, route templates, codes, counts, times. Never a query, a
body, an address, a name, nor the message of an unexpected exception, which may quote any of them.
"""

from __future__ import annotations

import logging
import sys
import traceback

import orjson
import structlog


def configure() -> None:
    """Sets up this process's log, for structlog and for the standard library's loggers (uvicorn's among them)."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    root = logging.getLogger()
    root.handlers = [_ToStructlog()]
    root.setLevel(logging.WARNING)


class _ToStructlog(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """A line that another package logs; of an exception only its kind and where it came from."""
        error = record.exc_info[1] if record.exc_info else None
        more = {"error": type(error).__name__, "at": places(error)} if error else {}
        event = record.msg if error else record.getMessage()
        structlog.get_logger(record.name).log(record.levelno, str(event)[:500], logger=record.name, **more)


def places(error: BaseException) -> list[str]:
    """Where an exception came from, innermost last, as `file:line function`: a traceback without what it says."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
