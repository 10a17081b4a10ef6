"""Everything the agent refuses or fails at.

AgentError
 |- PlanInvalid          422 invalid_plan (with field)
 |- RequestInvalid       400 invalid_request (with field)
 |- StaleEpoch           409 stale_epoch (with the current pair)
 |- ConflictingPlan      409 conflicting_plan
 |- NotFound             404 not_found
 |- Unauthorized         401 unauthorized
 |- TooLarge             413 too_large
 |- StorageFailed        507 storage_failed (retryable)
 |- HomeLocked           the home belongs to a running agent; start-up only
 |- GatewayUnavailable   Envoy's admin port did not answer (retryable); inside the agent only
"""

from __future__ import annotations

from typing import Any


class AgentError(Exception):
    """A refusal with a stable code; `retryable` says whether the same request can succeed later, unchanged."""

    code = "agent_error"
    status = 500
    title = "Agent error"
    retryable = False

    def __init__(self, detail: str, *, field: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field
        self.extra = extra


class PlanInvalid(AgentError):
    code, status, title = "invalid_plan", 422, "The plan is not valid"


class RequestInvalid(AgentError):
    code, status, title = "invalid_request", 400, "The request is not valid"


class StaleEpoch(AgentError):
    code, status, title = "stale_epoch", 409, "A newer plan is known"


class ConflictingPlan(AgentError):
    code, status, title = "conflicting_plan", 409, "Another plan has the same epoch and generation"


class NotFound(AgentError):
    code, status, title = "not_found", 404, "Not found"


class Unauthorized(AgentError):
    code, status, title = "unauthorized", 401, "A valid bearer token is needed"


class TooLarge(AgentError):
    code, status, title = "too_large", 413, "The body is too large"


class StorageFailed(AgentError):
    code, status, title, retryable = "storage_failed", 507, "The agent could not write to its home", True


class HomeLocked(AgentError):
    code, title = "home_locked", "Another agent runs with this home"


class GatewayUnavailable(AgentError):
    code, status, title, retryable = "gateway_unavailable", 503, "The gateway's admin port did not answer", True
