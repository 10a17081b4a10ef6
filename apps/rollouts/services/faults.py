"""Named points between the verbs of a tick, where crash tests strike. In production they do nothing.

``hook`` is set by the tests and by nothing else, as an attribute, in their own process or in a worker program of their
own: no setting and no environment variable reaches it.
"""

from __future__ import annotations

from collections.abc import Callable

POINTS = ("after_claim", "after_observe", "after_decide", "after_lease", "after_record", "after_apply", "after_store")
IN_RECORD = ("after_review",)
"""Inside the transaction of a transition that opens a review: only plans with an approval step pass it."""
IN_EXPERIMENT = ("in_experiment",)
"""Inside the transaction of a transition into, in or out of an experiment step."""

hook: Callable[[str], None] | None = None


def boundary(point: str) -> None:
    """Pass ``point``, one of POINTS, IN_RECORD or IN_EXPERIMENT."""
    if hook is not None:
        hook(point)
