"""Reading another MLflow server's registry over REST. Never waits to repeat: the caller's row says when."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from apps.kernel.errors import Unavailable
from apps.kernel.outbound import outbound_request
from apps.registry.domain.archives import path_problem
from apps.registry.domain.names import IS_PROMPT_TAG

PAGE = 50
VERSIONS_PAGE = 200
MAX_VERSIONS = 100_000
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_FILES = 10_000
TIMEOUT_SECONDS = 30.0
FILE_SECONDS = 300.0
_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


class RemoteFault(Unavailable):
    """The other server did not do what it was asked."""


class MlflowRegistry:
    """``url`` is the server's, with its path prefix; a credential without a user name is sent as a bearer token."""

    def __init__(self, url: str, *, username: str = "", credential: str = "") -> None:
        self._url = url.rstrip("/")
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
        return _objects(answer, "registered_models"), str(answer.get("next_page_token") or "")

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
            found += _objects(answer, "model_versions")
            token = str(answer.get("next_page_token") or "")
            if not token or len(found) > MAX_VERSIONS:
                return found

    def download_uri(self, name: str, number: int) -> str:
        """Where the server says that a version's files are."""
        asked = {"name": name, "version": str(number)}
        return str(self._get("model-versions/get-download-uri", asked).get("artifact_uri") or "")

    def proxied(self, uri: str) -> str | None:
        """The path of files that this server hands out itself (``mlflow-artifacts:``, its own address), or None."""
        parts = urlsplit(uri)
        own = urlsplit(self._url)
        if parts.scheme == "mlflow-artifacts" and parts.netloc in {"", own.netloc}:
            path = parts.path.strip("/")
        elif parts.scheme in {"http", "https"} and parts.netloc == own.netloc and _ARTIFACTS in parts.path:
            path = parts.path.partition(_ARTIFACTS)[2].strip("/")
        else:
            return None
        return path if path and not path_problem(path) else None

    def files(self, root: str) -> Iterator[str]:
        """The paths of all files below a folder, relative to it."""
        waiting, count = [""], 0
        while waiting:
            folder = waiting.pop()
            place = f"{root}/{folder}" if folder else root
            listed = _objects(self._json(f"{_ARTIFACTS}?{urlencode({'path': place})}"), "files")
            for one in listed:
                name = str(one.get("path") or "").rpartition("/")[2]
                path = f"{folder}/{name}" if folder else name
                count += 1
                if path_problem(path) or count > MAX_FILES:
                    raise RemoteFault("remote_files", f"The files at {root} cannot be taken: {path[:100]!r}.")
                if one.get("is_dir"):
                    waiting.append(path)
                else:
                    yield path

    def file(self, root: str, path: str) -> bytes:
        """One file's bytes, at most MAX_FILE_BYTES."""
        place = f"{_ARTIFACTS}/{quote(f'{root}/{path}')}"
        return self._bytes(place, MAX_FILE_BYTES, FILE_SECONDS)

    def _get(self, call: str, asked: Mapping[str, str]) -> dict[str, Any]:
        query = urlencode({key: value for key, value in asked.items() if value})
        return self._json(f"{_API}/{call}?{query}")

    def _json(self, path: str) -> dict[str, Any]:
        raw = self._bytes(path, MAX_ANSWER_BYTES, TIMEOUT_SECONDS)
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise RemoteFault(
                "remote_answer", f"{self._url} does not answer in JSON; is it an MLflow server?"
            ) from error
        if not isinstance(found, dict):
            raise RemoteFault("remote_answer", f"{self._url} does not answer as an MLflow server does.")
        return found

    def _bytes(self, path: str, limit: int, seconds: float) -> bytes:
        reply = outbound_request(
            "GET", f"{self._url}{path}", headers=self._headers, max_bytes=limit, timeout_seconds=seconds
        )
        if reply.is_ok:
            return reply.body
        told = reply.body[:300].decode("utf-8", "replace")
        way_out = " Check the user name and the credential." if reply.status in {401, 403} else ""
        raise RemoteFault(
            "remote_status",
            f"{self._url} answered {reply.status} to {path.partition('?')[0]}: {told}{way_out}",
            is_retryable=reply.is_retryable,
        )


def _objects(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = answer.get(name) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RemoteFault("remote_answer", f"The server's {name} are no list of objects.")
    return found
