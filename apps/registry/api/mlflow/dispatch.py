"""The MLflow registry protocol: which call needs which right and is answered by whom.

Default deny: what is not in the table does not exist (404 ENDPOINT_NOT_FOUND), and each row names its action. The door,
the parsing, the services and the errors are the same whether a request came through ``asgi.py`` or Django.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from django.db.utils import DataError, Error, InterfaceError, OperationalError

from apps.accounts.services.access import access_require
from apps.kernel.actor import Actor
from apps.kernel.errors import DomainError
from apps.registry.api.mlflow import model_calls, version_calls, webhook_calls
from apps.registry.api.mlflow.asked import Asked
from apps.registry.api.mlflow.door import actor_behind
from apps.registry.api.mlflow.faults import fault_answer, fault_of

log = structlog.get_logger(__name__)

ROUTE = re.compile(r"^(?:/[\w.\-]+){0,3}?/(?:ajax-)?api/2\.0/mlflow/(?P<call>.*)$")
SERVER_INFO = re.compile(r"^(?:/[\w.\-]+){0,3}?/(?:ajax-)?api/3\.0/mlflow/server-info$")
Handler = Callable[[Actor, Asked], dict[str, Any]]
READ, REGISTER, WRITE, DELETE = "model.read", "model.register", "model.write", "model.delete"
MOVE, HOOKS = "alias.move", "webhook.write"
CALLS: dict[tuple[str, str], tuple[str, Handler]] = {
    ("POST", "registered-models/create"): (REGISTER, model_calls.create),
    ("GET", "registered-models/get"): (READ, model_calls.get),
    ("PATCH", "registered-models/update"): (WRITE, model_calls.update),
    ("POST", "registered-models/rename"): (WRITE, model_calls.rename),
    ("DELETE", "registered-models/delete"): (DELETE, model_calls.delete),
    ("GET", "registered-models/search"): (READ, model_calls.search),
    ("POST", "registered-models/set-tag"): (WRITE, model_calls.tag_set),
    ("DELETE", "registered-models/delete-tag"): (WRITE, model_calls.tag_delete),
    ("POST", "registered-models/alias"): (MOVE, model_calls.alias_set),
    ("GET", "registered-models/alias"): (READ, model_calls.alias_get),
    ("DELETE", "registered-models/alias"): (MOVE, model_calls.alias_delete),
    ("POST", "registered-models/get-latest-versions"): (READ, version_calls.latest),
    ("GET", "registered-models/get-latest-versions"): (READ, version_calls.latest),
    ("POST", "model-versions/create"): (REGISTER, version_calls.create),
    ("GET", "model-versions/get"): (READ, version_calls.get),
    ("PATCH", "model-versions/update"): (WRITE, version_calls.update),
    ("POST", "model-versions/transition-stage"): (MOVE, version_calls.transition),
    ("DELETE", "model-versions/delete"): (DELETE, version_calls.delete),
    ("GET", "model-versions/search"): (READ, version_calls.search),
    ("GET", "model-versions/get-download-uri"): (READ, version_calls.download),
    ("POST", "model-versions/set-tag"): (WRITE, version_calls.tag_set),
    ("DELETE", "model-versions/delete-tag"): (WRITE, version_calls.tag_delete),
    ("POST", "webhooks"): (HOOKS, webhook_calls.create),
    ("GET", "webhooks"): (HOOKS, webhook_calls.listing),
    ("GET", "webhooks/{id}"): (HOOKS, webhook_calls.get),
    ("PATCH", "webhooks/{id}"): (HOOKS, webhook_calls.update),
    ("DELETE", "webhooks/{id}"): (HOOKS, webhook_calls.delete),
    ("POST", "webhooks/{id}/test"): (HOOKS, webhook_calls.test),
}
_WEBHOOK = re.compile(r"webhooks/(?P<id>[\w\-]{1,80})(?P<rest>/test)?")


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in; ``path`` is decoded, ``query`` and ``body`` are not."""

    method: str
    path: str
    query: bytes
    body: bytes
    authorization: str
    request_id: str
    address: str = ""


def is_mlflow(path: str) -> bool:
    return "/mlflow/" in path and (ROUTE.match(path) is not None or SERVER_INFO.match(path) is not None)


def answer(call: Call) -> tuple[int, bytes]:
    """Status and JSON body; raises nothing that a caller could cause."""
    try:
        return _answered(call)
    except DomainError as error:
        return fault_of(error)
    except DataError:
        # A value that the database cannot hold. Its text quotes SQL and parameters: it goes nowhere.
        return fault_answer("INVALID_PARAMETER_VALUE", "A value of the request cannot be stored.")
    except (OperationalError, InterfaceError) as error:
        log.warning("mlflow_database_unavailable", call=call.path, error=type(error).__name__)
        return fault_answer("TEMPORARILY_UNAVAILABLE", "The registry's database does not answer; try again.")
    except Error:
        log.exception("mlflow_call_failed", call=call.path)
        return fault_answer("INTERNAL_ERROR", f"Internal error; the log has it under request {call.request_id}.")


def _answered(call: Call) -> tuple[int, bytes]:
    if SERVER_INFO.match(call.path):
        return 200, b'{"store_type":"SqlStore","workspaces_enabled":false}'
    match = ROUTE.match(call.path)
    name = match.group("call").strip("/") if match else ""
    hook = _WEBHOOK.fullmatch(name)
    found = CALLS.get((call.method, f"webhooks/{{id}}{hook.group('rest') or ''}" if hook else name))
    actor = actor_behind(call.authorization, call.request_id, call.address)
    if found is None:
        return fault_answer("ENDPOINT_NOT_FOUND", f"There is no {call.method} {call.path} here.")
    action, handler = found
    access_require(actor, action)
    asked = Asked.of(call.method, call.query, call.body)
    if hook:
        asked = asked.with_field("webhook_id", hook.group("id"))
    return 200, orjson.dumps(handler(actor, asked))
