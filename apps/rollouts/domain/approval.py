"""An approval step: what is put before people, and what their answer means. Pure.

The evidence is a function of (state, seen), so a stored Transition gives it again, and with it the hash that an
approval is bound to. Approved is believed only for this review, this plan and this evidence.
"""

from __future__ import annotations

from typing import Any

from apps.kernel.verdicts import Finding, Verdict
from apps.rollouts.domain.forward import people_words
from apps.rollouts.domain.gates import judge, percent
from apps.rollouts.domain.machine import AskForReview, Hold, Pause, RollBack
from apps.rollouts.domain.plan import FULL_BP, Step, Unapproved
from apps.rollouts.domain.sight import sight_of
from apps.rollouts.domain.state import ReviewSeen, RolloutState, Seen

_WORST = (Verdict.FAIL, Verdict.ERROR, Verdict.NO_DATA, Verdict.INCONCLUSIVE, Verdict.PENDING, Verdict.PASS)


def review_answer(state: RolloutState, seen: Seen) -> str | Hold | AskForReview | Pause | RollBack:
    """What the review of the current step says; text, the reason to go on, when it is approved as it was asked."""
    step, number, review = state.plan.steps[state.step], state.step + 1, seen.review
    if review is None:
        return AskForReview(f"step {number} is asked about again: its review is not there", state.step)
    match review.state:
        case "open":
            return Hold(f"{waits_for(review, number)}; traffic stays as it is and guardrails go on")
        case "approved" if _is_ours(state, review):
            return f"approved by {review.said}"
        case "approved":
            return Pause("the approval is for another plan or other evidence than was asked about; resume asks again")
        case "rejected":
            return _refused(step, step.on_rejection, f"rejected by {review.said}", "only going back is possible")
        case "expired":
            return _refused(step, step.on_expiry, "nobody decided in time", "resume asks again")
        case other:
            return Pause(f"the request for an approval was {other}: {review.said}; resume asks again")


def waits_for(review: ReviewSeen, number: int) -> str:
    """ "step 8 waits for one person to approve: /reviews/rv_1/", with what there is of several."""
    so_far = f", {review.approvals} of {review.quorum} so far" if review.quorum > 1 else ""
    return f"step {number} waits for {people_words(review.quorum)} to approve{so_far}: {review_path(review.id)}"


def review_path(review_id: str) -> str:
    """The page on this site where people decide."""
    return f"/reviews/{review_id}/"


def _is_ours(state: RolloutState, review: ReviewSeen) -> bool:
    asked = (state.memo.review_id, state.plan.plan_hash, state.memo.evidence_hash)
    return (review.id, review.plan_hash, review.evidence_hash) == asked


def _refused(step: Step, then: Unapproved | None, reason: str, way_out: str) -> Pause | RollBack:
    return RollBack(reason) if then is Unapproved.ROLL_BACK else Pause(f"{reason}; {way_out}")


def review_evidence(state: RolloutState, seen: Seen, step: int) -> dict[str, Any]:
    """What was known when people were asked about ``step`` (an index): gates, guardrails, split, both versions.

    ``gates``: shares of bad requests with their anytime-valid range, for each gate and guardrail.
    """
    sight = sight_of(state, seen)
    found = [judge(spec, state, seen, sight) for spec in state.plan.specs]
    stable, candidate = seen.stable_traffic.weighted, seen.candidate_traffic.weighted
    measured = round(candidate / (stable + candidate) * FULL_BP) if stable + candidate else None
    return {
        "verdict": next((one.value for one in _WORST if any(one is finding.verdict for finding in found)), "pending"),
        "gates": [_gate(finding) for finding in found],
        "split": {
            "wanted_bp": state.weight_bp,
            "measured_bp": measured,
            "requests_to_stable": stable,
            "requests_to_candidate": candidate,
            "copied_bp": state.mirror_bp,
        },
        "versions": {
            "stable": str(state.plan.extra.get("stable") or state.stable_version),
            "candidate": str(state.plan.extra.get("candidate") or state.candidate_version),
        },
        **_experiment(seen),
        "step": step + 1,
        "steps": len(state.plan.steps),
        "strategy": state.plan.strategy.value,
        "endpoint": state.endpoint,
    }


def _experiment(seen: Seen) -> dict[str, Any]:
    """What the experiment of the step said, where there is one."""
    found = seen.experiment
    if found is None:
        return {}
    shown = {"id": found.id, "verdict": found.kind, "look": found.number, "units": found.units,
             "planned": found.planned, "reasons": list(found.reasons), "inputs_hash": found.inputs_hash}  # fmt: skip
    return {"experiment": shown}


def _gate(finding: Finding) -> dict[str, Any]:
    """Numbers as people read them; as numbers they stand in the Transition."""
    numbers = finding.evidence
    shown: dict[str, Any] = {"gate": numbers["name"], "verdict": finding.verdict.value}
    total, bad = numbers.get("total"), numbers.get("bad")
    if not (isinstance(total, int) and isinstance(bad, int) and total):
        return {**shown, "measured": finding.reason}
    lower, upper, limit = (float(str(numbers[name])) for name in ("lower", "upper", "limit"))
    return {
        **shown,
        "limit": percent(limit),
        "measured": percent(bad / total),
        "range": f"{percent(lower)} to {percent(upper)}",
        "bad": bad,
        "requests": total,
    }
