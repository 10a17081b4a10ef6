"""The driver of a local target: speaks to its node agent (contracts, section 2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
from django.conf import settings

from apps.kernel.errors import DriverError, FieldError, InvalidInput
from apps.kernel.roots import path_below
from apps.targets.domain.driver import (
    WAYS,
    Capabilities,
    Observed,
    PlanRefused,
    ProbeReport,
    StaleEpoch,
    Support,
    TargetUnreachable,
)
from apps.targets.domain.extras import Machine
from apps.targets.domain.observed import observed_from_json
from apps.targets.domain.plan import EndpointPlan, Role

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 5.0
POLL_GRACE_SECONDS = 10.0


def connect(connection: Mapping[str, Any]) -> LocalDriver:
    """From ``{"url", "token_file"}``; both default to the agent of this machine. Raises InvalidInput."""
    url = connection.get("url") or f"http://127.0.0.1:{settings.PILOTHOUSE_AGENT_PORT}"
    if not _is_address(url):
        detail = (
            f"{url!r} is not an http:// or https:// address with a host, a port up to 65535 and nothing behind '?'."
        )
        raise InvalidInput.at("/connection/url", "bad_url", detail)
    token_file = str(connection.get("token_file") or settings.PILOTHOUSE_AGENT_TOKEN_FILE)
    return LocalDriver(
        str(url), Path(path_below("/connection/token_file", token_file, setting="PILOTHOUSE_TOKEN_ROOTS"))
    )


def _is_address(url: object) -> bool:
    """Whether the client can be made from it, and whether it can mean an agent."""
    if not isinstance(url, str) or not url.startswith(("http://", "https://")):
        return False
    try:
        parts = urlsplit(url)
        httpx.URL(url)
        is_port = parts.port != 0  # ValueError above 65535
    except (ValueError, httpx.InvalidURL):
        return False
    is_host = bool(parts.hostname) and not re.search(r"\s", url)
    return is_host and is_port and not (parts.query or parts.fragment or parts.username)


class LocalDriver:
    """Safe to share between threads. The token is read at every call, so a renewed one needs no restart."""

    def __init__(self, url: str, token_file: Path) -> None:
        self._url = url.rstrip("/")
        self._token_file = token_file
        # no kept connections: one that the agent closed meanwhile would fail the next call with an unknown outcome;
        # no proxies from the environment: they have no way to a loopback address
        self._client = httpx.Client(
            base_url=self._url,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        )

    def apply(self, plan: EndpointPlan, *, epoch: int) -> None:
        wish = plan.to_json()
        for ours in ("rollout", "is_return"):
            wish.pop(ours, None)
        for variant in wish["variants"]:
            variant.pop("image", None)  # processes need no image, and the agent refuses what it does not know
            if variant["role"] == Role.WARM:
                variant["role"] = Role.SHADOW.value  # the one role without traffic that it knows
        self._call("PUT", _path(plan.endpoint), json={"epoch": epoch, "plan": wish})

    def observe(self, endpoint: str) -> Observed | None:
        data = self._call("GET", _path(endpoint), missing_is_none=True)
        return None if data is None else _observed(data)

    def remove(self, endpoint: str, *, epoch: int) -> None:
        self._call("DELETE", _path(endpoint), missing_is_none=True, params={"epoch": epoch})

    def probe(self) -> ProbeReport:
        data = self._call("GET", "/v1/probe") or {}
        return ProbeReport(
            capabilities=_capabilities(data.get("capabilities") or {}),
            version=str(data.get("version") or ""),
            gateway_url=str(data.get("gateway_url") or ""),
            warnings=tuple(data.get("warnings") or ()),
            facts={key: data[key] for key in ("envoy_version", "free_bytes") if key in data},
        )

    def machine(self, *, seconds: float) -> Machine | None:
        data = self._call("GET", "/v1/machine", missing_is_none=True, timeout=httpx.Timeout(seconds))
        if data is None:
            return None
        try:
            return Machine(self._url, int(data["memory_bytes"]), int(data["memory_available_bytes"]))
        except (KeyError, TypeError, ValueError) as error:
            raise _bad_answer(self._url, error) from error

    def logs(self, endpoint: str, variant: str, *, lines: int) -> Sequence[str]:
        path = f"{_path(endpoint)}/variants/{quote(variant, safe='')}/logs"
        data = self._call("GET", path, params={"lines": lines}) or {}
        return [str(line) for line in data.get("lines", ())]

    def watch(self, *, after_revision: int, wait_seconds: float) -> tuple[int, Sequence[Observed]]:
        params = {"after_revision": after_revision, "wait_seconds": wait_seconds}
        timeout = httpx.Timeout(wait_seconds + POLL_GRACE_SECONDS, connect=CONNECT_SECONDS)
        data = self._call("GET", "/v1/endpoints", params=params, timeout=timeout) or {}
        try:
            return int(data["revision"]), [_observed(item) for item in data["endpoints"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _bad_answer(self._url, error) from error

    def _call(self, method: str, path: str, *, missing_is_none: bool = False, **request: Any) -> dict[str, Any] | None:
        headers = {"Authorization": f"Bearer {self._token()}"}
        try:
            response = self._client.request(method, path, headers=headers, **request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.status_code == 404 and missing_is_none:
            return None
        body = _body(self._url, response)
        if response.is_success:
            return body
        raise _refusal(self._url, response.status_code, body)

    def _token(self) -> str:
        try:
            token = self._token_file.read_text(encoding="utf-8").strip()
            token.encode("ascii")  # what a header can carry
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it holds no token"
            raise DriverError(
                "agent_token_unreadable",
                f"The agent's token file {self._token_file} cannot be read: {why}.",
                is_retryable=True,
            ) from error
        return token

    def _unreachable(self, error: httpx.TransportError) -> TargetUnreachable:
        # the kind of error, not its text: a sentence that differs from call to call would be a write each time
        how = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "cannot be reached"
        return TargetUnreachable(
            "target_unreachable",
            f"The node agent at {self._url} {how} ({type(error).__name__}). Is it running?",
            is_retryable=True,
        )


def _path(endpoint: str) -> str:
    return f"/v1/endpoints/{quote(endpoint, safe='')}"


def _body(url: str, response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError as error:
        raise _bad_answer(url, error) from error
    if not isinstance(body, dict):
        raise _bad_answer(url, TypeError(type(body).__name__))
    return body


def _refusal(url: str, status: int, body: Mapping[str, Any]) -> DriverError:
    code, detail = str(body.get("code") or f"http_{status}"), str(body.get("detail") or f"The agent answered {status}.")
    if status == 409 and code == "stale_epoch":
        extra = {key: body[key] for key in ("current_epoch", "current_generation") if key in body}
        return StaleEpoch(code, detail, extra=extra)
    if status in {400, 409, 413, 422}:
        pointer = str(body.get("field") or "")
        return PlanRefused(code, detail, fields=(FieldError(pointer, code, detail),) if pointer else ())
    if status in {401, 403}:
        return DriverError("agent_token_refused", f"The node agent at {url} refused our token.", is_retryable=True)
    return DriverError(code, detail, is_retryable=bool(body.get("retryable", status >= 500)))


def _observed(data: Mapping[str, Any]) -> Observed:
    try:
        return observed_from_json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise _bad_answer("the node agent", error) from error


def _capabilities(data: Mapping[str, Any]) -> Capabilities:
    try:
        ways = {key: Support(data[key]) for key in WAYS if key in data}
        least, note = int(data.get("min_weight_bp", 1)), str(data.get("note", ""))
        return Capabilities(**ways, min_weight_bp=least, note=note, keeps_idle=True)
    except (TypeError, ValueError) as error:
        raise _bad_answer("the node agent", error) from error


def _bad_answer(url: str, error: Exception) -> DriverError:
    return DriverError(
        "bad_answer", f"{url} answered something that is no agent's answer ({type(error).__name__}).", is_retryable=True
    )
