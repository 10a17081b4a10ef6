"""How long to leave a failing target alone."""

from __future__ import annotations

REFUSED_SECONDS = 60.0
MAX_SECONDS = 30.0


def retry_delay_seconds(failures_before: int, *, is_retryable: bool) -> float:
    """1, 2, 4 … 30 s for what may pass by itself; a minute for what a person must change first.

    >>> [retry_delay_seconds(n, is_retryable=True) for n in (0, 1, 2, 9)]
    [1.0, 2.0, 4.0, 30.0]
    """
    if not is_retryable:
        return REFUSED_SECONDS
    return min(MAX_SECONDS, 2.0 ** min(failures_before, 10))
