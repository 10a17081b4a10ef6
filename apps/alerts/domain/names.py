"""What a subscription, a channel or a receiver may be called."""

from __future__ import annotations

import re
from typing import Final

from apps.kernel.errors import InvalidInput

_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,80}")


def name_check(name: str) -> None:
    """Raises InvalidInput at /name."""
    if not _NAME.fullmatch(name):
        raise InvalidInput.at("/name", "bad_name", "A name has 1 to 80 characters on one line.")
