"""States as pages show them: shape and word, the budget as a bar, each tier as a small one."""

from __future__ import annotations

from typing import Any, Final

from apps.kernel.verdicts import Verdict
from apps.slo.domain.replay import Episode, Replay, TierReplay
from apps.slo.domain.state import span, times
from apps.slo.selectors import BurnShown, TierShown

LEVELS: Final = {
    Verdict.PASS: ("ok", "kept"),
    Verdict.FAIL: ("bad", "burning"),
    Verdict.INCONCLUSIVE: ("attention", "too few requests"),
    Verdict.NO_DATA: ("unknown", "no data"),
    Verdict.ERROR: ("unknown", "error"),
    Verdict.PENDING: ("progressing", "pending"),
}
SHOWN_EPISODES: Final = 5
EVEN: Final = 0.0005
"""Less than what is shown: neither left nor overspent."""


def burn_row(burn: BurnShown, *, is_past: bool = False) -> dict[str, Any]:
    """Time to exhaustion first, the factor second; ``bar`` is the width of what is left, of 100. ``is_past``: nobody
    judges any more, so the words are of the past, no colour says anything good and nothing is said to last."""
    level = LEVELS[burn.verdict]
    if burn.verdict is Verdict.FAIL and not burn.firing and burn.kind != "percentile":
        level = ("attention", "overspent")
    if not burn.is_enabled:
        level = ("unknown", "off")
    elif is_past and burn.computed_at is not None:
        level = ("unknown", f"was {level[1]}" if burn.verdict in {Verdict.PASS, Verdict.FAIL} else level[1])
    left = burn.remaining
    tone = "ok" if left is None or left >= 0.5 else "attention" if left >= 0.1 else "bad"
    return {
        "burn": burn,
        "level": level,
        "of": " ".join(filter(None, (burn.name, burn.variant and f"of {burn.variant}", f"over {burn.period_days} d"))),
        "left": _left(left),
        "left_said": _left_said(left),
        "is_past": is_past,
        "is_over": left is not None and left < -EVEN,
        "bar": 0 if left is None else max(0, min(100, round(left * 100))),
        "tone": "unknown" if is_past else tone,
        "gone": "not judged" if is_past else gone(burn),
        "fastest": _fastest(burn),
        "tiers": [tier_row(tier) for tier in burn.tiers],
    }


def gone(burn: BurnShown) -> str:
    if burn.remaining is None:
        return "–"
    if burn.remaining <= 0:
        return "gone"
    return "lasts" if burn.exhausts_in is None else span(burn.exhausts_in)


def _left(left: float | None) -> str | None:
    """``24.7 %``; ``3,650 % over`` of a budget that is overspent: "−3,650 %" that are "gone" would be twice no."""
    if left is None:
        return None
    if left < -EVEN:
        return f"{_over(left)} over"
    return f"{max(0.0, left):.1%}".replace("%", " %")


def _over(left: float) -> str:
    return (f"{-left:.1%}" if left > -1 else f"{-left:,.0%}").replace("%", " %")


def _left_said(left: float | None) -> str:
    """The same as a sentence for whoever does not see the bar."""
    if left is None:
        return ""
    if left < -EVEN:
        return f"the budget is overspent by {_over(left)}"
    return f"{_left(left)} of the budget is left"


def _fastest(burn: BurnShown) -> str:
    """The burn rate now: of the tier whose smaller window is highest."""
    both = [
        min(tier.long_burn, tier.short_burn)
        for tier in burn.tiers
        if tier.long_burn is not None and tier.short_burn is not None
    ]
    return f"{_burn(max(both))} ×" if both else ""


def tier_row(tier: TierShown) -> dict[str, Any]:
    """``fill`` of 100: how near the smaller of both windows is to the factor (at 80)."""
    both = [burn for burn in (tier.long_burn, tier.short_burn) if burn is not None]
    near = min(both) / tier.factor if len(both) == 2 else 0.0
    return {
        "tier": tier,
        "fill": max(0, min(100, round(80 * near))),
        "long": _burn(tier.long_burn),
        "short": _burn(tier.short_burn),
        "long_word": span(tier.long_seconds),
        "short_word": span(tier.short_seconds),
        "factor": f"{tier.factor:.3g}",
        "level": ("bad" if tier.severity == "page" else "attention") if tier.is_firing else "ok",
    }


def _burn(burn: float | None) -> str:
    if burn is None:
        return "–"
    if 0 < burn < 0.01:
        return "< 0.01"
    return f"{burn:.2g}" if burn < 1 else times(burn)


def replay_rows(found: Replay) -> dict[str, Any]:
    return {
        "days": (found.until - found.since) // 86_400,
        "requests": found.requests,
        "bad": found.bad,
        "tiers": [_replayed(tier) for tier in found.tiers],
        "fired": sum(len(tier.episodes) for tier in found.tiers),
    }


def _replayed(tier: TierReplay) -> dict[str, Any]:
    count = len(tier.episodes)
    return {
        "tier": tier,
        "factor": f"{tier.factor:.3g}",
        "word": "never fired" if not count else "fired once" if count == 1 else f"fired {count} times",
        "least": f"{tier.least_bad:,.0f}",
        "gated": span(tier.minutes_gated * 60) if tier.minutes_gated else "",
        "episodes": [_episode(one) for one in reversed(tier.episodes[-SHOWN_EPISODES:])],
        "more": max(0, count - SHOWN_EPISODES),
    }


def _episode(one: Episode) -> dict[str, Any]:
    return {
        "at": one.detected_at,
        "detected": span(one.detected_after),
        "reset": "still on" if one.reset_after is None else f"{span(one.reset_after)} after recovery",
        "worst": f"{one.worst_share:.1%}".replace("%", " %"),
    }
