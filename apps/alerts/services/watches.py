"""A look by the clock has come to its end: noted, so that pages, ``/metrics`` and alerts can say when none does."""

from __future__ import annotations

from apps.alerts.domain.watches import since_after
from apps.alerts.models import Watch
from apps.alerts.selectors import watches_seen
from apps.kernel.clock import now


def watch_note(name: str) -> None:
    """One row of the whole house, however many endpoints it has. Two workers at once write the same."""
    moment = now()
    since = since_after(watches_seen().get(name), moment)
    Watch.objects.update_or_create(name=name, defaults={"at": moment, "since": since})
