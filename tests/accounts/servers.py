"""Small real servers of the other side: an identity provider with RSA keys that signs in people and CI jobs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from apps.kernel.clock import now


class Provider:
    """An OpenID Connect provider at a port of its own. ``person`` are the claims of whoever is at its login page."""

    def __init__(self) -> None:
        self.kid = "k1"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.person: dict[str, Any] = {"sub": "subject-1", "preferred_username": "grace", "email": "grace@site.example"}
        self.overrides: dict[str, Any] = {}
        self.signing_key: Any = None
        self.codes: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        assert self.server is not None
        return f"127.0.0.1:{self.server.server_address[1]}"

    @property
    def issuer(self) -> str:
        return f"http://{self.address}"

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token of this issuer; ``claims`` None are left out."""
        moment = int(now().timestamp())
        whole = {"iss": self.issuer, "iat": moment, "exp": moment + 300, "jti": uuid4().hex, **claims}
        return jwt.encode(
            {name: value for name, value in whole.items() if value is not None},
            self.signing_key or self.key,
            algorithm="RS256",
            headers={"kid": self.kid, **header},
        )

    def jwks(self) -> dict[str, Any]:
        item: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [{**item, "kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def authorize(self, query: dict[str, str]) -> str:
        code = uuid4().hex
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def token(self, form: dict[str, str]) -> dict[str, Any] | None:
        asked = self.codes.pop(form.get("code", ""), None)
        if asked is None or form.get("client_secret") != "the-client-secret":
            return None
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked.get("code_challenge"):
            return None
        claims = {"aud": asked["client_id"], **self.person, **self.overrides}
        return {"access_token": uuid4().hex, "token_type": "Bearer", "expires_in": 300, "id_token": self.sign(claims)}


def handler_of(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            provider.asked.append(parts.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize(query))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            known: dict[str, Any] = {
                "/.well-known/openid-configuration": provider.configuration,
                "/jwks": provider.jwks,
                "/userinfo": lambda: provider.person,
            }
            self.answer(known[parts.path]() if parts.path in known else None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            self.answer(provider.token({name: values[0] for name, values in parse_qs(body).items()}))

        def answer(self, data: Any) -> None:
            body = json.dumps(data or {"error": "invalid_request"}).encode()
            self.send_response(200 if data else 400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler


@contextmanager
def running(provider: Provider) -> Iterator[Provider]:
    """The provider at a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(provider))
    server.daemon_threads = True
    provider.server = server
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
