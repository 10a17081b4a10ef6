"""Preflight: asking a target whether it would take a plan, before anything is started. Changes nothing anywhere."""

from __future__ import annotations

from dataclasses import replace

from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, DriverError, InvalidInput
from apps.kernel.verdicts import Verdict
from apps.registry.selectors import version_get
from apps.targets.domain.driver import PlanRefused
from apps.targets.domain.extras import Preflighted
from apps.targets.domain.plan import FULL_BP, EndpointPlan, Mirror, Role, Route, VariantSpec
from apps.targets.domain.preflight import Check, PreflightReport
from apps.targets.models import Endpoint, Target
from apps.targets.selectors import endpoint_list, plan_of, target_get
from apps.targets.services.connect import name_check
from apps.targets.services.desire import plan_next
from apps.targets.services.drivers import driver_for
from apps.targets.services.scope import endpoint_require
from apps.targets.services.variants import VersionLike, variant_beside, variant_of

SECONDS = 20.0
"""For all calls of one preflight together; somebody waits for the page."""
FIRST_BP = 500


def endpoint_preflight(
    *,
    actor: Actor,
    endpoint_id: str,
    version_id: str,
    weight_bp: int = FIRST_BP,
    mirror_bp: int = 0,
    is_alone: bool = False,
    seconds: float = SECONDS,
) -> PreflightReport:
    """Would the endpoint's target take this version beside the stable one (``is_alone``: in its place)?

    What is asked about is the peak: both variants in full size, with the first weight or mirror. An unreachable target
    is an answer as well, one that blocks. Call it outside any transaction. Raises NotFound, Forbidden
    (``rollout.plan`` in the endpoint's team and environment), InvalidInput.
    """
    endpoint = endpoint_require(actor, "rollout.plan", endpoint_id)
    version = version_get(version_id, actor=actor)
    if version.model_id != endpoint.model_id:
        raise InvalidInput.at("/version", "other_model", f"{version.semver} is not a version of {endpoint.model.name}.")
    plan = _beside(endpoint, version, weight_bp, mirror_bp, is_alone=is_alone)
    return plan_preflight(endpoint.target, plan, seconds=seconds)


def endpoint_preflight_new(
    *, actor: Actor, target_id: str, name: str, version_id: str, seconds: float = SECONDS
) -> PreflightReport:
    """Would the target take a new endpoint ``name`` that serves this version? Raises as ``endpoint_preflight``, and
    Conflict ``name_taken``: what stands at another endpoint is not shown under a pretext."""
    name_check(name, pointer="/endpoint")
    if endpoint_list().filter(name=name).exists():
        raise Conflict("name_taken", f"There is an endpoint named {name} already; choose another name.")
    target, version = target_get(target_id, actor), version_get(version_id, actor=actor)
    access_require(actor, "rollout.plan", version.model.team_id, target.environment)
    spec = variant_of(version, Role.STABLE)
    plan = EndpointPlan(name, 1, (spec,), Route(1, {spec.key: FULL_BP}))
    return plan_preflight(target, plan, seconds=seconds)


def plan_preflight(target: Target, plan: EndpointPlan, *, seconds: float = SECONDS) -> PreflightReport:
    """What the target's driver says about ``plan``; one without this ability has nothing to check, and says so."""
    try:
        driver = driver_for(target)
        if not isinstance(driver, Preflighted):
            said = f"Targets of kind {target.kind} have nothing to check beforehand."
            return PreflightReport((Check("preflight", Verdict.PASS, said),), is_supported=False)
        return driver.preflight(plan, seconds=seconds)
    except PlanRefused as refused:
        return _only(Check("plan", Verdict.FAIL, refused.detail, "Change the named field of the plan."))
    except DriverError as error:
        way_out = "Try again." if error.is_retryable else "Correct the target's connection, then probe it."
        return _only(Check("connection", Verdict.ERROR, error.detail, way_out))
    except InvalidInput as error:
        return _only(Check("connection", Verdict.FAIL, error.detail, "Correct the target's connection."))


def _only(check: Check) -> PreflightReport:
    return PreflightReport((check,))


def _beside(
    endpoint: Endpoint, version: VersionLike, weight_bp: int, mirror_bp: int, *, is_alone: bool
) -> EndpointPlan:
    before = plan_of(endpoint)
    stable = before.stable if before is not None else None
    candidate = variant_beside(version, stable)
    known = before.variant(candidate.key) if before is not None else None
    candidate = known or candidate
    if stable is None or is_alone or stable.key == candidate.key:
        alone = _as(candidate, Role.STABLE)
        return plan_next(endpoint, before, (alone,), Route(0, {alone.key: FULL_BP}))
    weights = {stable.key: FULL_BP - weight_bp, candidate.key: weight_bp}
    mirror = Mirror(candidate.key, mirror_bp) if mirror_bp else None
    role = Role.SHADOW if mirror_bp and not weight_bp else Role.CANDIDATE
    route = Route(0, {key: share for key, share in weights.items() if share}, mirror, None, stable.key)
    return plan_next(endpoint, before, (stable, _as(candidate, role)), route)


def _as(spec: VariantSpec, role: Role) -> VariantSpec:
    return replace(spec, role=role)
