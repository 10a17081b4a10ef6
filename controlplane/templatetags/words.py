"""How numbers, times and states are said: pure functions behind the template filters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

SHAPES: Final = {"ok": "●", "progressing": "◐", "attention": "▲", "bad": "■", "unknown": "◇"}

# stored state -> (level, word): verdicts, phases, variant and version states; no value has two meanings.
STATES: Final[dict[str, tuple[str, str]]] = {
    "pass": ("ok", "ok"),
    "fail": ("bad", "over the limit"),
    "inconclusive": ("attention", "too few samples"),
    "no_data": ("unknown", "no data"),
    "error": ("unknown", "error"),
    "warn": ("attention", "look at this"),
    "block": ("bad", "blocks the start"),
    "pending": ("progressing", "pending"),
    "preparing": ("progressing", "preparing"),
    "shifting": ("progressing", "shifting"),
    "baking": ("progressing", "baking"),
    "gating": ("progressing", "gating"),
    "promoting": ("progressing", "promoting"),
    "waiting": ("attention", "waits for a person"),
    "paused": ("attention", "paused"),
    "rolling_back": ("bad", "rolling back"),
    "promoted": ("ok", "promoted"),
    "rolled_back": ("bad", "rolled back"),
    "aborted": ("unknown", "aborted"),
    "failed": ("bad", "failed"),
    "superseded": ("unknown", "superseded"),
    "completed": ("ok", "completed"),
    "starting": ("progressing", "starting"),
    "ready": ("ok", "ready"),
    "unready": ("bad", "not ready"),
    "backoff": ("bad", "waits to restart"),
    "stopping": ("progressing", "stopping"),
    "pending_registration": ("progressing", "registering"),
    "failed_registration": ("bad", "registration failed"),
}


def state_of(name: str) -> tuple[str, str]:
    """(level, word) of a stored state; one that is not known yet is shown as it is written."""
    return STATES.get(str(name), ("unknown", str(name).replace("_", " ")))


def plain(value: float, digits: int) -> str:
    """A number with at most ``digits`` decimals, without trailing zeros, thousands apart."""
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float | None, digits: int | None = None) -> str:
    """A share (0..1) as "24.7 %"; small ones keep enough digits to be told from 0."""
    if share is None:
        return "–"
    value = share * 100
    if digits is None:
        digits = 0 if value == round(value) else 1 if value >= 10 else 2
    return f"{plain(value, digits)} %"


def latency(seconds: float | None) -> str:
    """Seconds as "512 ms" below 10 s, "12.4 s" above."""
    if seconds is None:
        return "–"
    if seconds < 0.01:
        return f"{plain(seconds * 1000, 1)} ms"
    return f"{plain(seconds * 1000, 0)} ms" if seconds < 10 else f"{plain(seconds, 1)} s"


def duration(seconds: float | None) -> str:
    """Seconds in the largest unit that stays readable: "45 s", "1 min 30 s", "2 h 5 min"."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d"


def age(seconds: float) -> str:
    """The coarse form of ``duration`` for "… ago": one unit."""
    whole = max(0, round(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def size(count: float | None) -> str:
    """Bytes in decimal units: "191 MB"."""
    if count is None:
        return "–"
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{plain(value, 0 if value >= 10 else 1)} {unit}"
        value /= 1000
    return f"{plain(value, 1)} TB"


def moment(value: datetime | float | None) -> datetime | None:
    """A time from a datetime or Unix seconds, in UTC."""
    if value is None:
        return None
    return datetime.fromtimestamp(value, UTC) if isinstance(value, int | float) else value.astimezone(UTC)
