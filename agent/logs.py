"""JSON lines on stderr that never stop the program."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO

import structlog


class ForgivingStream:
    """stderr on a full disk raises on every line; supervision must go on, so the line is lost instead."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure_logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=ForgivingStream(sys.stderr)),  # type: ignore[arg-type]
    )
    # uvicorn and httpx speak through logging; its handlers report their own write errors and do not raise.
    logging.raiseExceptions = False
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
