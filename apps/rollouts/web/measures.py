"""What was measured at an endpoint, as pages show it: shares, percentiles, error rates, and who wears which colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from apps.kernel.clock import now
from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.plan import Strategy
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Role
from apps.targets.domain.tones import tone_of
from apps.telemetry.domain.window import UNSERVED, Window, WindowRequest
from apps.telemetry.selectors import split_counts_many, windows

if TYPE_CHECKING:
    from apps.rollouts.models import Rollout

RECENT_SECONDS = 300
SPARK_POINTS = 15
SPARK_SECONDS = 60

Tones = dict[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """One variant's traffic. Shares are 0..1; ``measured`` is None without a request in the current period. ``role`` is
    what the plan says it is now, ``tone`` the colour it wears. ``unserved`` requests had no answer of any of its
    processes: they are errors, and in no latency."""

    key: str
    version: str
    role: str
    tone: str
    wanted: float
    measured: float | None
    requests: int
    mirrored: float
    p95: float | None
    errors: float | None
    judged: int
    unserved: int = 0

    @property
    def counted(self) -> int:
        """What ``errors`` is a share of."""
        return self.judged + self.unserved


@dataclass(frozen=True, slots=True)
class Measured:
    """One endpoint: its parts, and what its callers saw in the last minutes over all variants."""

    parts: list[Part] = field(default_factory=list)
    p95: float | None = None
    errors: float | None = None
    judged: int = 0
    unserved: int = 0
    newest_at: float | None = None
    spark: list[float | None] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """Of all parts, since the weights last changed: what the shares were measured from."""
        return sum(part.requests for part in self.parts)

    @property
    def counted(self) -> int:
        """What ``errors`` is a share of."""
        return self.judged + self.unserved

    def part(self, key: str) -> Part | None:
        return next((part for part in self.parts if part.key == key), None)


def version_of(key: str) -> str:
    """The version a key was made from (``ModelVersion.variant_key``), for variants that no plan names any more."""
    return key.removeprefix("v").replace("-", ".")


def tones_of(plan: EndpointPlan | None, keys: Iterable[str] = (), rollout: Rollout | None = None) -> Tones:
    """Variant key -> (version, tone), by one rule for every page:

    1. in the story of ``rollout`` its candidate is amber (a shadow violet) and its stable version slate, from its first
       page load to its last: the roles of that rollout, which never change;
    2. else the role in ``plan``, the endpoint's own;
    3. else (further ``keys``) a colour by the hash of the version.
    """
    tones = {item.key: (item.version, item.role.value) for item in plan.variants} if plan else {}
    if rollout is not None:
        tones |= _roles_of(rollout)
    return tones | {key: (version_of(key), tone_of(key)) for key in keys if key not in tones}


def story_of(rollouts: Sequence[Rollout]) -> Rollout | None:
    """The rollout whose roles hold at an endpoint, of its rollouts newest first: the newest that has begun, until its
    candidate has become the stable version."""
    newest = next((one for one in rollouts if one.phase != Phase.PENDING), None)
    return newest if newest is not None and newest.phase != Phase.PROMOTED else None


def in_story(measured: Measured, rollout: Rollout | None) -> Measured:
    """The same with the colours of that rollout."""
    roles = _roles_of(rollout) if rollout is not None else {}
    parts = [replace(part, tone=roles[part.key][1]) if part.key in roles else part for part in measured.parts]
    return replace(measured, parts=parts)


def _roles_of(rollout: Rollout) -> Tones:
    candidate, stable = rollout.candidate_version, rollout.stable_version
    role = Role.SHADOW if rollout.strategy == Strategy.SHADOW else Role.CANDIDATE
    return {
        stable.variant_key: (stable.semver, Role.STABLE.value),
        candidate.variant_key: (candidate.semver, role.value),
    }


def p95_of(window: Window) -> float | None:
    estimate = window.latency.quantile(0.95)
    return estimate.value if estimate else None


def error_share(*windows: Window) -> float | None:
    judged = sum(window.judged for window in windows)
    return sum(window.bad for window in windows) / judged if judged else None


def measure_many(plans: Mapping[str, EndpointPlan], *, with_spark: bool = True) -> dict[str, Measured]:
    """The measures of many endpoints, by name, in two queries."""
    at = int(now().timestamp())
    counts = split_counts_many([(name, plan.route.period) for name, plan in plans.items()])
    asked: list[WindowRequest] = []
    for name, plan in plans.items():
        for variant in plan.variants:
            asked.append(WindowRequest(name, variant.key, since=at - RECENT_SECONDS))
            asked.append(WindowRequest(name, variant.key, routes=(UNSERVED,), since=at - RECENT_SECONDS))
            asked += _spark_requests(name, variant.key, at) if with_spark else []
    answers = iter(windows(asked))
    return {
        name: _measured(plan, counts[name, plan.route.period], [_take(answers, with_spark) for _ in plan.variants])
        for name, plan in plans.items()
    }


def measure(plan: EndpointPlan) -> Measured:
    """The measures of one endpoint."""
    return measure_many({plan.endpoint: plan}, with_spark=False)[plan.endpoint]


def _spark_requests(name: str, key: str, at: int) -> list[WindowRequest]:
    newest = at // 10 * 10
    return [
        WindowRequest(
            name,
            key,
            routes=("weighted",),
            since=newest - back * SPARK_SECONDS,
            until=newest - (back - 1) * SPARK_SECONDS,
        )
        for back in range(SPARK_POINTS, 0, -1)
    ]


_Found = tuple[Window, Window, list[Window]]  # of the last minutes, unserved in them, for the small line


def _take(answers: Iterable[Window], with_spark: bool) -> _Found:
    source = iter(answers)
    recent, unserved = next(source), next(source)
    return recent, unserved, [next(source) for _ in range(SPARK_POINTS)] if with_spark else []


def _measured(plan: EndpointPlan, counts: Mapping[str, int], found: Sequence[_Found]) -> Measured:
    total = sum(counts.values())
    mirror = plan.route.mirror
    parts = [
        Part(
            key=item.key,
            version=item.version,
            role=item.role.value,
            tone=item.role.value,
            wanted=plan.weight_bp(item.key) / FULL_BP,
            measured=counts.get(item.key, 0) / total if total else None,
            requests=counts.get(item.key, 0),
            mirrored=mirror.fraction_bp / FULL_BP if mirror and mirror.variant == item.key else 0.0,
            p95=p95_of(recent),
            errors=error_share(recent, unserved),
            judged=recent.judged,
            unserved=unserved.judged,
        )
        for item, (recent, unserved, _) in zip(plan.variants, found, strict=True)
    ]
    called = [each for part, each in zip(parts, found, strict=True) if part.wanted] or [found[0]]
    whole = called[0][0].latency.merge(*(each[0].latency for each in called[1:]))
    estimate = whole.quantile(0.95)
    columns = list(zip(*(spark for _, _, spark in found), strict=True))
    return Measured(
        parts=parts,
        p95=estimate.value if estimate else None,
        errors=error_share(*(window for recent, unserved, _ in called for window in (recent, unserved))),
        judged=sum(recent.judged for recent, _, _ in called),
        unserved=sum(unserved.judged for _, unserved, _ in called),
        newest_at=max((recent.newest_at for recent, _, _ in found if recent.newest_at is not None), default=None),
        spark=[_merged_p95(column) for column in columns],
    )


def _merged_p95(column: Sequence[Window]) -> float | None:
    estimate = column[0].latency.merge(*(window.latency for window in column[1:])).quantile(0.95)
    return estimate.value if estimate else None
