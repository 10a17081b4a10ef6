"""The loopback API of contracts.md section 2."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import structlog

from agent.api.http import Receive, Scope, Send, read_json_body, send_json, send_problem
from agent.api.views import delete_endpoint, list_endpoints, machine, probe, put_endpoint, read_endpoint, read_logs
from agent.core import Agent
from agent.errors import AgentError, NotFound, RequestInvalid, Unauthorized

log = structlog.get_logger("agent.api")

Query = dict[str, str]


class MethodNotAllowed(AgentError):
    code, status, title = "method_not_allowed", 405, "This address has no such method"


class InternalError(AgentError):
    code, status, title, retryable = "internal_error", 500, "The agent failed", True


class AgentApi:
    """ASGI application. Every call but /livez needs the bearer token."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._token = agent.settings.token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            status, body = await self._answer(scope, receive)
        except AgentError as error:
            await send_problem(send, error)
        except Exception:
            log.exception("request_failed", path=scope["path"])
            await send_problem(send, InternalError("An unforeseen error happened; the agent's log has the details."))
        else:
            await send_json(send, status, body)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, Any]:
        parts = [unquote(part) for part in scope["path"].strip("/").split("/")]
        method = scope["method"]
        if parts == ["livez"]:
            return 200, {"status": "ok"}
        self._authorise(scope)
        query = _query(scope)
        match parts:
            case ["v1", "probe"]:
                return await _pick(method, {"GET": lambda: probe(self._agent)})
            case ["v1", "machine"]:
                return await _pick(method, {"GET": machine})
            case ["v1", "endpoints"]:
                return await _pick(method, {"GET": lambda: list_endpoints(self._agent, query)})
            case ["v1", "endpoints", name]:
                return await _pick(method, self._endpoint_calls(name, query, receive))
            case ["v1", "endpoints", name, "variants", key, "logs"]:
                return await _pick(method, {"GET": lambda: read_logs(self._agent, name, key, query)})
            case _:
                raise NotFound("The agent has no such address.")

    def _endpoint_calls(self, name: str, query: Query, receive: Receive) -> dict[str, Call]:
        async def put() -> tuple[int, Any]:
            return await put_endpoint(self._agent, name, await read_json_body(receive))

        return {
            "GET": lambda: read_endpoint(self._agent, name),
            "PUT": put,
            "DELETE": lambda: delete_endpoint(self._agent, name, query),
        }

    def _authorise(self, scope: Scope) -> None:
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        scheme, _, token = header.partition(b" ")
        # Constant time: how long a wrong token takes must not tell how much of it was right.
        is_right = hmac.compare_digest(token.strip(), self._token)
        if scheme.lower() != b"bearer" or not is_right:
            raise Unauthorized("Send the agent's token as 'Authorization: Bearer <token>'.")


Call = Callable[[], Awaitable[tuple[int, Any]]]


async def _pick(method: str, calls: dict[str, Call]) -> tuple[int, Any]:
    call = calls.get(method)
    if call is None:
        raise MethodNotAllowed(f"Only {', '.join(sorted(calls))} is known here, not {method}.")
    return await call()


def _query(scope: Scope) -> Query:
    try:
        found = parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True)
    except UnicodeDecodeError as error:
        raise RequestInvalid("The query string is not ASCII.") from error
    return {name: values[-1] for name, values in found.items()}
