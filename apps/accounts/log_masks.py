"""One-time links and sign-in codes stand in addresses, and servers write addresses into logs: there they are cut out.

The links work once and for days; whoever reads a log must not be faster than whoever was sent the link.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

_SECRET: Final = re.compile(r"(?P<keep>/(?:setup|invite)/|[?&](?:code|state|token|id_token)=)[^/?&\s\"']+")
LOGGERS: Final = ("uvicorn.access", "django.request", "django.security.csrf")


def masked(text: str) -> str:
    """``text`` without what stands in it as an address's secret."""
    return _SECRET.sub(r"\g<keep>…", text)


class MaskAddresses(logging.Filter):
    """Rewrites a record's message and arguments; lets every record through."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = masked(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(_masked(item) for item in record.args)
        return True


def install() -> None:
    """On every logger that writes addresses; a second time changes nothing."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(item, MaskAddresses) for item in logger.filters):
            logger.addFilter(MaskAddresses())


def _masked(item: Any) -> Any:
    return masked(item) if isinstance(item, str) else item
