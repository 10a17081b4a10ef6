"""After a confirmation: the form that had to wait, shown once more and sent by one click."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

from apps.accounts.domain.doors import SIGNED_IN
from apps.accounts.web_access import declares, form_kept, step_up


@declares(SIGNED_IN)
@never_cache
@step_up
def go_on(request: HttpRequest) -> HttpResponse:
    """What was filled in, to send it or to go back. It waits in the session until it is sent or too old."""
    kept = form_kept(request)
    if kept is None:
        return redirect("fleet")
    back = kept["back"] if url_has_allowed_host_and_scheme(kept["back"], allowed_hosts=None) else "/"
    context = {
        "path": kept["path"],
        "back": back,
        "fields": kept["fields"],
        "left_out": kept["left_out"],
        "shown": [(name.replace("_", " "), value) for name, value in kept["fields"] if value],
    }
    return render(request, "accounts/go_on.html", context)
