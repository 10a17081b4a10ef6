"""The signed arm: what the assignment gives a caller and the gateway only compares.

``<experiment>.<arm>.<32 hex digits>``, the digits from HMAC-SHA256 under the experiment's own secret. The gateway knows
the two values and matches them exactly; it computes nothing, so any gateway that matches a header can do it. A value
that nobody signed is none of the two, falls through to the weights, and counts for no arm. Which unit may use which arm
is checked where exposures are taken: the unit's arm follows from its own hash, whatever a caller says.
"""

from __future__ import annotations

import hashlib
import hmac

ARM_HEADER = "x-pilothouse-arm"


def arm_value(secret: str, experiment_id: str, arm: str) -> str:
    """The header's value for everybody in ``arm``."""
    signed = f"{experiment_id}.{arm}"
    mac = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()[:32]
    return f"{signed}.{mac}"


def arm_of_value(value: str, values: dict[str, str]) -> str | None:
    """The arm whose value this is, None for a forged or foreign one. ``values``: arm -> value."""
    found = None
    for arm, signed in values.items():
        if hmac.compare_digest(signed.encode(), value.encode()):
            found = arm
    return found
