"""Step-up: what is dangerous asks a signed-in person to prove again who they are, if the last proof is old.

Services and API views call ``step_up_require(request, actor)``; pages put ``@step_up`` (web_access.py) on the view,
which sends to the confirmation page and back. Keys and CI tokens have no session to steal and are not asked.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import Forbidden

CONFIRM_URL = "/account/confirm/"


def step_up_is_fresh(request: HttpRequest) -> bool:
    """Whether this session's last proof (sign-in or confirmation) is at most PILOTHOUSE_STEP_UP_SECONDS old."""
    session, moment = request.session, now().timestamp()
    records = session.get("account_authentication_methods", [])
    proofs = [float(item["at"]) for item in records if isinstance(item, dict) and "at" in item]
    proofs.append(float(session.get("signed_in_at", moment - settings.PILOTHOUSE_STEP_UP_SECONDS - 1)))
    return bool(moment - max(proofs) <= settings.PILOTHOUSE_STEP_UP_SECONDS)


def step_up_require(request: HttpRequest, actor: Actor) -> None:
    """Raises Forbidden ``step_up_required`` with the address where a person confirms."""
    if actor.kind == "user" and not step_up_is_fresh(request):
        minutes = settings.PILOTHOUSE_STEP_UP_SECONDS // 60
        raise Forbidden(
            "step_up_required",
            f"Confirm that it is you ({CONFIRM_URL}): this needs a sign-in of the last {minutes} minutes.",
            extra={"confirm_url": CONFIRM_URL},
        )
