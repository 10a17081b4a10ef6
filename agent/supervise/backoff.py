"""How long to wait before the next start: 0.5 s, doubling to 30 s, forgotten after a minute of health.

What had been healthy for a while is started again at once, the first time: callers wait for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SECONDS = 0.5
LAST_SECONDS = 30.0
HEALTHY_SECONDS = 10.0
RESET_AFTER_SECONDS = 60.0


@dataclass(slots=True)
class Backoff:
    """
    >>> backoff = Backoff()
    >>> [backoff.next_delay(healthy_seconds=0) for _ in range(8)]
    [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    >>> [backoff.next_delay(healthy_seconds=seconds) for seconds in (61, 11, 0)]
    [0.0, 0.5, 1.0]
    """

    exits: int = 0
    is_spent: bool = False  # the one start without waiting

    def next_delay(self, *, healthy_seconds: float) -> float:
        """Seconds to wait after an exit that followed `healthy_seconds` of health."""
        if healthy_seconds >= RESET_AFTER_SECONDS:
            self.exits, self.is_spent = 0, False
        if healthy_seconds >= HEALTHY_SECONDS and self.exits == 0 and not self.is_spent:
            self.is_spent = True
            return 0.0
        delay: float = min(LAST_SECONDS, FIRST_SECONDS * 2.0 ** min(self.exits, 16))
        self.exits += 1
        return delay
