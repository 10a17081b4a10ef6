"""The one way out: HTTP to addresses that other people chose (issuers, webhooks, registries, metric stores).

1. the URL is http or https, without credentials, to an allowed port;
2. its host is resolved once; every address that is not public is refused (private, loopback, link-local and metadata,
   multicast, reserved, and IPv4 hidden in IPv6), unless settings name the host in PILOTHOUSE_OUTBOUND_ALLOW;
3. the connection goes to the address that was checked, never through a second resolution, while TLS and ``Host`` keep
   the name: an answer that changes between the check and the connection changes nothing;
4. redirects are not followed; size and total time are capped; proxies of the environment are not used.

Raises Refused (no retry helps) or Unreachable (``is_retryable``).
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import certifi
import httpcore
from django.conf import settings

from apps.kernel.errors import Unavailable

PORTS: Final = frozenset({80, 443, 8443})
MAX_BYTES: Final = 1024 * 1024
TIMEOUT_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 3.0
_RETRYABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_DEFAULT_PORT: Final = {"http": 80, "https": 443}

Resolver = Callable[[str, int], Sequence[str]]


class OutboundFault(Unavailable):
    """A call out did not happen or did not end; ``is_retryable`` says whether another may."""


class Refused(OutboundFault):
    """A rule says no: scheme, port, address, size. Asking again changes nothing."""


class Unreachable(OutboundFault):
    """The other side did not answer in time, or not in HTTP."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back. Header names are lower case; ``is_retryable`` is True for statuses that pass by themselves."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def is_ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_retryable(self) -> bool:
        return self.status in _RETRYABLE


def outbound_request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_seconds: float = TIMEOUT_SECONDS,
    max_bytes: int = MAX_BYTES,
    resolve: Resolver | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Reply:
    """One call, as the module says. ``timeout_seconds`` is for all of it, name resolution and slow bodies included."""
    parts = _checked_url(url)
    deadline = time.monotonic() + timeout_seconds
    backend = _Backend(deadline, resolve or system_resolve)
    sent = {"host": parts.netloc, "user-agent": "pilothouse", "accept-encoding": "identity", **_lower(headers or {})}
    try:
        with (
            httpcore.ConnectionPool(
                ssl_context=ssl_context or _trusted(), network_backend=backend, max_keepalive_connections=0, retries=0
            ) as pool,
            pool.stream(
                method.upper(),
                url,
                headers=list(sent.items()),
                content=body or None,
                extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), timeout_seconds)},
            ) as answer,
        ):
            return Reply(answer.status, _headers(answer.headers), _body(answer, max_bytes, parts, deadline))
    except httpcore.TimeoutException as error:
        raise Unreachable(
            "outbound_timeout", f"{parts.hostname} did not answer within {timeout_seconds:g} s.", is_retryable=True
        ) from error
    except (httpcore.NetworkError, httpcore.RemoteProtocolError) as error:
        is_certificate = isinstance(error.__context__, ssl.SSLCertVerificationError) or "CERTIFICATE" in str(error)
        what = "shows no valid certificate" if is_certificate else f"cannot be reached: {error or type(error).__name__}"
        raise Unreachable("outbound_failed", f"{parts.hostname} {what}.", is_retryable=not is_certificate) from error
    except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol, ValueError) as error:
        raise Refused("outbound_bad_request", f"The call cannot be written as HTTP: {error}.") from error


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, IPv4 inside IPv6 looked through. Raises ValueError for a name."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        hidden = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if hidden is None and any(found in network for network in _NAT64):
            hidden = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if hidden is None and int(found) >> 32 == 0:  # ::a.b.c.d, deprecated and still understood by some stacks
            hidden = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if hidden is not None and not is_public(str(hidden)):
            return False
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast and not found.is_reserved


def is_allow_listed(host: str, port: int) -> bool:
    """Whether settings open this host (``name``, ``name:port``, ``[v6]:port``) although it is not public."""
    name = f"[{host}]" if ":" in host else host
    return bool(
        {name.lower(), f"{name}:{port}".lower()} & {item.lower() for item in settings.PILOTHOUSE_OUTBOUND_ALLOW}
    )


def system_resolve(host: str, port: int) -> Sequence[str]:
    """Every address of ``host``, by the system. Decimal and octal spellings (``2130706433``, ``0177.1``) come out as
    the address that they mean, and are checked like any other."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable("outbound_unknown_host", f"{host} has no address.", is_retryable=True) from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def addresses_checked(host: str, port: int, resolve: Resolver = system_resolve) -> Sequence[str]:
    """Where ``host`` may be reached: connect to these, not to the name. Raises Refused, Unreachable."""
    addresses = resolve(host, port)
    if is_allow_listed(host, port):
        return addresses
    # One bad address condemns the name: picking the good ones would leave the choice to whoever runs its DNS.
    if any(not is_public(address) for address in addresses):
        raise Refused(
            "outbound_private",
            f"{host} is inside (private, loopback or link-local). "
            "If it is meant, an operator adds it to PILOTHOUSE_OUTBOUND_ALLOW.",
        )
    return addresses


def port_checked(host: str, port: int) -> None:
    """Raises Refused for a port of ``host`` that no call goes to."""
    if port not in PORTS and not is_allow_listed(host, port):
        allowed = ", ".join(str(item) for item in sorted(PORTS))
        raise Refused(
            "outbound_port", f"Port {port} is not called; allowed are {allowed} and PILOTHOUSE_OUTBOUND_ALLOW."
        )


def _checked_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT.get(parts.scheme, 0)
    except ValueError as error:
        raise Refused("outbound_bad_url", f"Not an address: {error}.") from error
    host = parts.hostname or ""
    if parts.scheme not in _DEFAULT_PORT or not host:
        raise Refused("outbound_bad_scheme", "Only http and https addresses with a host are called.")
    if parts.username is not None or parts.password is not None:
        raise Refused("outbound_credentials", "An address must not carry a user name or password.")
    if any(ord(letter) <= 32 or ord(letter) == 127 for letter in url):
        raise Refused("outbound_bad_url", "An address has no spaces or control characters.")
    port_checked(host, port)
    return parts


class _Backend(httpcore.NetworkBackend):
    """Resolves once, checks, connects to what was checked. httpcore does TLS over it with the host's name."""

    def __init__(self, deadline: float, resolve: Resolver) -> None:
        self._deadline = deadline
        self._resolve = resolve
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        last: Exception | None = None
        for address in addresses_checked(host, port, self._resolve):
            left = min(CONNECT_SECONDS, self._deadline - time.monotonic())
            if left <= 0:
                raise httpcore.ConnectTimeout
            try:
                stream = self._real.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
                continue
            return _Timed(stream, self._deadline)
        raise last or httpcore.ConnectError("no address")


class _Timed(httpcore.NetworkStream):
    """No read or write waits beyond the deadline of the whole call: a peer that sends a byte a second gains nothing."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def _left(self, kind: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise kind
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(httpcore.ConnectTimeout)
        return _Timed(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _body(answer: httpcore.Response, max_bytes: int, parts: SplitResult, deadline: float) -> bytes:
    chunks, size = [], 0
    for chunk in answer.iter_stream():
        size += len(chunk)
        if size > max_bytes:
            raise Refused("outbound_too_large", f"{parts.hostname} sends more than {max_bytes:,} bytes.")
        if time.monotonic() > deadline:
            raise httpcore.ReadTimeout
        chunks.append(chunk)
    return b"".join(chunks)


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certifi.where())
