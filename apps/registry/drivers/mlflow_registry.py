"""Reading another MLflow server's registry over REST. Never waits to repeat: the caller's row says when."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.conf import settings

from apps.kernel.errors import InvalidInput, Unavailable
from apps.kernel.outbound import Refused, Unreachable, addresses_checked, outbound_request, port_checked
from apps.registry.domain.names import IS_PROMPT_TAG

PAGE = 50
VERSIONS_PAGE = 200
MAX_VERSIONS = 100_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024
TIMEOUT_SECONDS = 30.0
API = "/api/2.0/mlflow"


class RemoteFault(Unavailable):
    """The other server did not do what it was asked."""


def check_callable(url: str) -> None:
    """Raises InvalidInput at /url for a server that no call out may go to. A name that nobody resolves just now is
    not refused: the run says so, and asks again."""
    host, port = _place(url)
    try:
        if host:
            port_checked(host, port)
        addresses_checked(host, port)
    except Unreachable:
        return
    except Refused as refused:
        said = f"{host} is inside your network (private, loopback or link-local) and not called from here"
        if refused.code == "outbound_port":
            said = f"The port {port} is not one that is called from here"
    else:
        return
    line = allow_line(url)
    detail = f"{said} until an operator allows it: start Pilothouse again with {line} (docs/operations.md)."
    raise InvalidInput.at("/url", "outbound_refused", detail)


def allow_line(url: str) -> str:
    """The setting that lets this server be called; what is set already stays before the comma."""
    host, port = _place(url)
    before = "…," if settings.PILOTHOUSE_OUTBOUND_ALLOW else ""
    return f"PILOTHOUSE_OUTBOUND_ALLOW={before}{f'[{host}]' if ':' in host else host}:{port}"


def _place(url: str) -> tuple[str, int]:
    """Raises InvalidInput for a port that is none."""
    parts = urlsplit(url)
    try:
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise InvalidInput.at("/url", "bad_url", f"Not an address: {error}.") from error


class MlflowRegistry:
    """``url`` is the server's, with its path prefix; a credential without a user name is sent as a bearer token."""

    def __init__(self, url: str, *, username: str = "", credential: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"accept": "application/json"}
        if username:
            pair = base64.b64encode(f"{username}:{credential}".encode()).decode("ascii")
            self._headers["authorization"] = f"Basic {pair}"
        elif credential:
            self._headers["authorization"] = f"Bearer {credential}"

    def models_page(self, token: str, *, prompts: bool) -> tuple[list[dict[str, Any]], str]:
        """One page of models or of prompts, by name, and the token of the next ("" at the end)."""
        asked = {"max_results": str(PAGE), "page_token": token}
        if prompts:
            asked["filter"] = f"tag.`{IS_PROMPT_TAG}` = 'true'"
        answer = self._get("registered-models/search", asked)
        return objects(answer, "registered_models"), str(answer.get("next_page_token") or "")

    def model(self, name: str) -> dict[str, Any]:
        """One model with its aliases, which searches leave out."""
        found = self._get("registered-models/get", {"name": name}).get("registered_model")
        if not isinstance(found, dict):
            raise RemoteFault("remote_answer", f"The server's answer about {name} has no registered_model.")
        return found

    def versions(self, name: str, *, prompts: bool) -> list[dict[str, Any]]:
        """Every version of a model. Raises RemoteFault, also for a name that no filter can say."""
        mark = '"' if "'" in name else "'"
        if mark in name:
            raise RemoteFault("remote_name", f"{name} has both kinds of quotes, so the server cannot be asked for it.")
        wanted = f"name = {mark}{name}{mark}"
        if prompts:
            wanted += f" AND tag.`{IS_PROMPT_TAG}` = 'true'"
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            asked = {"filter": wanted, "max_results": str(VERSIONS_PAGE), "page_token": token}
            answer = self._get("model-versions/search", asked)
            found += objects(answer, "model_versions")
            token = str(answer.get("next_page_token") or "")
            if not token or len(found) > MAX_VERSIONS:
                return found

    def download_uri(self, name: str, number: int) -> str:
        """Where the server says that a version's files are."""
        asked = {"name": name, "version": str(number)}
        return str(self._get("model-versions/get-download-uri", asked).get("artifact_uri") or "")

    def _get(self, call: str, asked: Mapping[str, str]) -> dict[str, Any]:
        query = urlencode({key: value for key, value in asked.items() if value})
        return self.ask(f"{API}/{call}?{query}")

    def ask(self, path: str) -> dict[str, Any]:
        """The JSON object at ``path`` of the server. Raises RemoteFault, Refused and Unreachable."""
        raw = self.fetch(path, MAX_ANSWER_BYTES, TIMEOUT_SECONDS)
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise RemoteFault(
                "remote_answer", f"{self.url} does not answer in JSON; is it an MLflow server?"
            ) from error
        if not isinstance(found, dict):
            raise RemoteFault("remote_answer", f"{self.url} does not answer as an MLflow server does.")
        return found

    def fetch(self, path: str, limit: int, seconds: float) -> bytes:
        """What lies at ``path`` of the server, at most ``limit`` bytes within ``seconds``. Raises as ``ask``."""
        reply = outbound_request(
            "GET", f"{self.url}{path}", headers=self._headers, max_bytes=limit, timeout_seconds=seconds
        )
        if reply.is_ok:
            return reply.body
        told = reply.body[:300].decode("utf-8", "replace")
        way_out = " Check the user name and the credential." if reply.status in {401, 403} else ""
        raise RemoteFault(
            "remote_status",
            f"{self.url} answered {reply.status} to {path.partition('?')[0]}: {told}{way_out}",
            is_retryable=reply.is_retryable,
        )


def objects(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects ``name`` of an answer. Raises RemoteFault."""
    found = answer.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RemoteFault("remote_answer", f"The server's {name} are no list of objects.")
    return found
