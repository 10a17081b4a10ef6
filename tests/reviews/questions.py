"""People and questions. Alice ships and asks; Ana, Ben and Cid approve; Bob looks."""

from __future__ import annotations

from typing import Any

from apps.accounts.domain.roles import Role
from apps.kernel.actor import Actor
from apps.kernel.canonical import sha256_of
from apps.reviews.domain.states import Verdict
from apps.reviews.models import Review
from apps.reviews.services.decide import review_decide
from apps.reviews.services.open import Subject, Terms, Wake, review_open
from tests.cast import make_actor

PLAN = sha256_of({"steps": [5, 25, 100]})
OTHER_PLAN = sha256_of({"steps": [50, 100]})
EVIDENCE = {
    "verdict": "inconclusive",
    "gates": [
        {"gate": "error rate", "verdict": "pass", "value": 0.0041, "limit": 0.01, "n": 8412},
        {"gate": "p95", "verdict": "inconclusive", "value": 0.498, "limit": 0.5, "n": 312},
    ],
    "traffic": {"stable": "1.0.0", "candidate": "1.1.0", "weight_bp": 2500, "since": "2026-03-01T12:00:00Z"},
    "notes": ["baked 900 s", "<script>alert(1)</script>"],
}


def approver(name: str) -> Actor:
    return make_actor(name, frozenset({Role.APPROVER}))


def ask(actor: Actor, *, plan: str = PLAN, part: str = "step-3", evidence: Any = None, **terms: Any) -> Review:
    return review_open(
        actor=actor,
        subject=Subject("rollout", "ro_1", "late-arrival to 1.1.0", part=part, url="/rollouts/ro_1/"),
        title="Go on to 100 %?",
        request="It has served 25 % for a quarter of an hour.",
        plan_hash=plan,
        evidence=EVIDENCE if evidence is None else evidence,
        terms=Terms(**terms),
        wake=Wake("rollouts.tick", {"rollout_id": "ro_1"}),
    )


def decide(actor: Actor, review: Review, verdict: str = "approve", reason: str = "", **seen: Any) -> Review:
    what = {
        "expected_revision": review.revision, "plan_hash": review.plan_hash, "evidence_hash": review.evidence_hash,
        **seen,
    }  # fmt: skip
    return review_decide(actor=actor, review_id=review.pk, verdict=Verdict(verdict), reason=reason, **what)
