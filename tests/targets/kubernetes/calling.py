"""What a test does at a cluster beside the driver, the same way at a real one and at the one made of memory."""

from __future__ import annotations

import json
from typing import Any

from kubernetes import client
from kubernetes.client.rest import ApiException

JSON = dict[str, Any]
MERGE = "application/merge-patch+json"


class Calling:
    """Mixed into a cluster that says how to connect to it."""

    def configuration(self, token: str = "admin-token") -> client.Configuration:
        raise NotImplementedError

    def call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> JSON:
        """One request as the administrator. Raises ApiException."""
        return self._sent(method, path, body, kind, "admin-token")[1]

    def ask(
        self, method: str, path: str, body: Any = None, kind: str = "application/json", *, token: str = "admin-token"
    ) -> tuple[int, dict[str, str], JSON]:
        """Status, headers and body of one request, whatever they are."""
        try:
            headers, found = self._sent(method, path, body, kind, token)
            return 200, headers, found
        except ApiException as error:
            named = {key.lower(): value for key, value in (error.headers or {}).items()}
            try:
                return error.status, named, json.loads(error.body or "{}")
            except ValueError:
                return error.status, named, {}

    def _sent(self, method: str, path: str, body: Any, kind: str, token: str) -> tuple[dict[str, str], JSON]:
        api = client.ApiClient(self.configuration(token))
        try:
            answer = api.call_api(
                path, method, {}, [], {"Accept": "application/json", "Content-Type": kind}, body=body,
                auth_settings=["BearerToken"], _preload_content=False, _return_http_data_only=True, _request_timeout=30,
            )  # fmt: skip
            found: JSON = json.loads(answer.data)
            return {key.lower(): value for key, value in answer.headers.items()}, found
        finally:
            api.rest_client.pool_manager.clear()

    def namespace(self, name: str) -> str:
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        return name
