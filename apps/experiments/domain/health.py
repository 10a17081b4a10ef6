"""Is the experiment itself sound? What is not, blocks the verdict: no formula brings lost units back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from apps.experiments.domain.events import SECONDS_PER_HOUR
from apps.experiments.domain.sums import UNITS, cells_of, counts_by_period
from apps.experiments.domain.words import ARMS
from apps.kernel.stats.maturity import Maturity, maturity
from apps.kernel.stats.srm import SrmResult, check_split

if TYPE_CHECKING:
    from apps.experiments.domain.analysis import Inputs

CONTAMINATED_SHARE, CONTAMINATED_LEAST = 0.01, 10
"""More than one in a hundred units in both arms (and more than a handful): something assigns that is not us."""
MISROUTED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Health:
    srm: SrmResult
    maturity: dict[str, Maturity]
    window_seconds: int | None
    contaminated: int
    misrouted: int
    units: int
    blocks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        srm = self.srm
        return {
            "srm": {
                "status": srm.status.value,
                "reason": srm.reason,
                "log_bayes_factor": srm.log_bayes_factor,
                "worst_period": srm.worst_period,
                "periods": [asdict(period) for period in srm.periods],
            },
            "maturity": {arm: {**asdict(found), "share": found.share} for arm, found in self.maturity.items()},
            "window_seconds": self.window_seconds,
            "contaminated": {"units": self.contaminated, "share": self.share_of(self.contaminated)},
            "misrouted": {"units": self.misrouted, "share": self.share_of(self.misrouted)},
            "blocks": list(self.blocks),
        }

    def share_of(self, count: int) -> float:
        return count / (self.units + count) if count else 0.0


def health_of(inputs: Inputs) -> Health:
    """Sample ratio per period, maturity per arm, contamination."""
    cells = cells_of(inputs.cells, UNITS)
    periods = inputs.numbers
    counts = counts_by_period(cells, periods)
    weights = [list(period.weights_bp) for period in inputs.periods]
    srm = check_split(counts, weights, final=inputs.is_final)
    units = sum(map(sum, counts))
    window = inputs.design.primary_metric.window_seconds
    ripe = {
        arm: maturity(
            [float((cell.hour + 1) * SECONDS_PER_HOUR) for cell in cells if cell.arm == number],
            [cell.n for cell in cells if cell.arm == number],
            window=float(window or 0),
            as_of=inputs.as_of,
        )
        for number, arm in enumerate(ARMS)
    }
    blocks = _blocks(srm, inputs.contaminated, inputs.misrouted, units)
    return Health(srm, ripe, window, inputs.contaminated, inputs.misrouted, units, blocks)


def _blocks(srm: SrmResult, contaminated: int, misrouted: int, units: int) -> tuple[str, ...]:
    found = []
    if srm.blocks:
        found.append(f"sample-ratio mismatch: {srm.reason}; find out which units are lost or moved")
    share = contaminated / max(units + contaminated, 1)
    if contaminated >= CONTAMINATED_LEAST and share > CONTAMINATED_SHARE:
        found.append(
            f"{contaminated:,} of {units + contaminated:,} units were seen in both arms ({share:.1%}): assign only "
            "through the assignment, and send on the header that it gives"
        )
    if misrouted >= CONTAMINATED_LEAST and misrouted / max(units + misrouted, 1) > MISROUTED_SHARE:
        found.append(
            f"{misrouted:,} units were answered by another version than their arm's: send on the arm's header unchanged"
        )
    return tuple(found)
