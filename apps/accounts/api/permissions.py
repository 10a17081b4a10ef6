"""Default deny: an API view says which action it needs, or it cannot be called at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.core.exceptions import ImproperlyConfigured
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts.domain.doors import DECLARABLE, PUBLIC, SIGNED_IN
from apps.accounts.services.access import access_require

if TYPE_CHECKING:  # rest_framework.views imports its default permissions, this file, while it is being made
    from rest_framework.views import APIView

_SAME_AS = {"HEAD": "GET"}


class DeclaredAction(BasePermission):
    """Reads ``view.action_required``: an action, PUBLIC, SIGNED_IN, or a dict of these by method.

    Raises Forbidden naming the roles that can; ImproperlyConfigured for a view that declares nothing.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        required = required_by(view, request.method or "")
        if required == PUBLIC:
            return True
        actor = getattr(request, "actor", None)
        if actor is None:
            raise NotAuthenticated("Sign in, or send a key: Authorization: Bearer plh_…")
        if required != SIGNED_IN:
            access_require(actor, required)
        return True


def required_by(view: APIView, method: str) -> str:
    """What ``method`` needs at ``view``. A method that the view does not have needs a sign-in, then gets its 405."""
    declared: str | Mapping[str, str] | None = getattr(view, "action_required", None)
    name = type(view).__name__
    if declared is None:
        raise ImproperlyConfigured(f"{name} declares no action_required; every API view must")
    method = _SAME_AS.get(method, method)
    if not isinstance(declared, str):
        if method not in declared:
            if method != "OPTIONS" and hasattr(view, method.lower()):
                raise ImproperlyConfigured(f"{name}.action_required has no entry for {method}")
            return SIGNED_IN
        declared = declared[method]
    if declared not in DECLARABLE:
        raise ImproperlyConfigured(f"{name}.action_required names an unknown action: {declared}")
    return declared
