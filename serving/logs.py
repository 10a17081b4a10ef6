"""Structured JSON logs on stderr, one line per event, for our own and the libraries' loggers alike."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson
import structlog

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def _dumps(event: Any, **options: Any) -> str:
    return orjson.dumps(event, default=options.get("default", str)).decode()


def configure_logs(**fields: str) -> None:
    """Write JSON lines to stderr; `fields` (endpoint, variant, instance) are part of every line."""
    structlog.contextvars.bind_contextvars(**fields)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
    for name in ("httpx", "httpcore", "uvicorn"):  # one line per telemetry batch would drown the rest
        logging.getLogger(name).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def adopt_library_loggers() -> None:
    """MLflow gives its loggers handlers of their own at import; take them away so that every line is JSON."""
    for name in ("mlflow", "alembic", "sqlalchemy"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.WARNING)


class LogLimiter:
    """At most `burst` lines per `seconds`: a model that raises on every request must not fill the disk."""

    def __init__(self, burst: int = 20, seconds: float = 10.0) -> None:
        self._burst = burst
        self._seconds = seconds
        self._window = 0.0
        self._used = 0
        self._suppressed = 0

    def admit(self) -> int | None:
        """None when the line must be left out, else how many were left out since the last one that was written."""
        window = time.monotonic() // self._seconds
        if window != self._window:
            self._window, self._used = window, 0
        if self._used >= self._burst:
            self._suppressed += 1
            return None
        self._used += 1
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
