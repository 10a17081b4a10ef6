"""Who may do what at the cluster made of memory: tokens, their ends, and Roles."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from kubernetes import client

from tests.targets.kubernetes.calling import Calling

Json = dict[str, Any]
ADMIN_TOKEN, LIMITED_TOKEN, STORM_TOKEN = "admin-token", "limited-token", "storm-token"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Access(Calling):
    """Mixed into the store. Without a token one is the administrator, as through an insecure port of old."""

    objects: dict[tuple[str, str], Json]
    url: Any
    folder: Any

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()  # (verb, resource) that nobody may
        self._ends: dict[str, float] = {ADMIN_TOKEN: 1e18, LIMITED_TOKEN: 1e18, STORM_TOKEN: 1e18}

    @property
    def ca_file(self) -> Path:
        return Path(self.folder) / "tls.crt"

    def configuration(self, token: str = ADMIN_TOKEN) -> client.Configuration:
        found = client.Configuration()
        found.host, found.retries = self.url, False
        found.ssl_ca_cert = str(self.folder / "tls.crt") if found.host.startswith("https") else None
        found.api_key = {"BearerToken": f"Bearer {token}"}
        return found

    def token_for(self, seconds: float) -> str:
        """An administrator's token that ends so soon."""
        token = f"short-{len(self._ends)}"
        self._ends[token] = time.monotonic() + seconds
        return token

    def is_known(self, header: str) -> bool:
        """Whether an Authorization header is accepted."""
        token = header.removeprefix("Bearer ")
        return not token or self._ends.get(token, 0.0) > time.monotonic()

    def may(self, header: str, verb: str, resource: str, namespace: str) -> bool:
        if (verb, resource) in self.denied:
            return False
        if header.removeprefix("Bearer ") != LIMITED_TOKEN or resource == "selfsubjectaccessreviews":
            return True
        bound = {
            item["roleRef"]["name"]
            for (plural, _), item in self.objects.items()
            if plural == "rolebindings" and item["metadata"]["namespace"] == namespace
        }
        return any(
            resource in rule["resources"] and verb in rule["verbs"]
            for (plural, name), role in self.objects.items()
            if plural == "roles" and name in bound and role["metadata"]["namespace"] == namespace
            for rule in role["rules"]
        )


def verb_of(method: str, name: str, query: Json) -> str:
    if method != "GET":
        return VERBS[method]
    if query.get("watch") in {"True", "true"}:
        return "watch"
    return "get" if name else "list"
