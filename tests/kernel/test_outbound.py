"""The one way out: what it refuses, and that the address that was checked is the address that is called."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from apps.kernel import outbound
from apps.kernel.outbound import Refused, Unreachable, is_public, outbound_request


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        if self.path == "/redirect":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = b"x" * 2000 if self.path == "/large" else b"hello"
        self.send_response(503 if self.path == "/busy" else 200)
        if self.path == "/endless":
            self.end_headers()
            with_patience(self.wfile)
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def with_patience(stream: Any) -> None:
    """A byte every tenth of a second, for as long as somebody reads."""
    for _ in range(600):
        try:
            stream.write(b".")
            stream.flush()
        except OSError:
            return
        time.sleep(0.1)


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def port(settings: Any) -> Iterator[int]:
    Handler.seen.clear()
    with serving() as found:
        settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"inside.example:{found}", f"127.0.0.1:{found}")
        yield found


def to(address: str) -> outbound.Resolver:
    return lambda host, port: [address]


NOT_PUBLIC = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0"),
    *(
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:a9fe:a9fe",
    ),
    *("64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1", "::127.0.0.1", "2001:db8::1"),
    "::ffff:1.1.1.1",  # mapped addresses are refused as such: no name needs to answer with one
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_of_the_internet_is_refused_in_every_spelling(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(Refused, match="inside") as refused:
        outbound_request("GET", "https://looks-fine.example/", resolve=to(address))
    assert not refused.value.is_retryable


@pytest.mark.parametrize("address", ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


# What a system's resolver makes of these is 127.0.0.1 or 169.254.169.254; they are checked after that, like any other.
SPELLINGS = [
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "0",
    "2852039166",
    "localhost",
    "[::1]",
    "[::ffff:7f00:1]",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_loopback_is_refused_however_it_is_written(host: str) -> None:
    with pytest.raises((Refused, Unreachable)) as refused:
        outbound_request("GET", f"http://{host}/")
    assert refused.value.code in {"outbound_private", "outbound_unknown_host"}


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "outbound_bad_scheme"),
        ("gopher://site.example/", "outbound_bad_scheme"),
        ("ftp://site.example/", "outbound_bad_scheme"),
        ("//site.example/", "outbound_bad_scheme"),
        ("https:///nothing", "outbound_bad_scheme"),
        ("https://user:secret@site.example/", "outbound_credentials"),
        ("https://site.example:22/", "outbound_port"),
        ("https://site.example:6379/", "outbound_port"),
        ("https://site.example:99999/", "outbound_bad_url"),
        ("https://site.example/a b", "outbound_bad_url"),
        ("https://site.example/\r\nHost: other", "outbound_bad_url"),
        ("http://[::1", "outbound_bad_url"),
    ],
)
def test_an_address_that_should_not_be_called_is_refused_by_its_form(url: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        outbound_request("GET", url, resolve=to("1.1.1.1"))
    assert refused.value.code == code
    assert "secret" not in refused.value.detail


def test_one_private_address_among_public_ones_condemns_the_name() -> None:
    with pytest.raises(Refused):
        outbound_request("GET", "https://mixed.example/", resolve=lambda host, port: ["1.1.1.1", "10.0.0.1"])


def test_a_name_that_changes_its_answer_is_called_where_it_was_checked(port: int, monkeypatch: Any) -> None:
    """Rebinding: public when it is checked, loopback at the second look. There must be no second look."""
    answers = ["203.0.114.7", "127.0.0.1"]
    asked, connected = [], []

    def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return [answers[min(len(asked), len(answers)) - 1]]

    real = socket.create_connection

    def watched(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
        connected.append(address[0])
        if address[0] == answers[0]:
            raise TimeoutError("nobody is there")
        return real(address, *args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", watched)
    with pytest.raises(Unreachable):
        outbound_request("GET", "http://rebinding.example/", resolve=rebinding, timeout_seconds=5)
    assert (asked, connected) == (["rebinding.example"], ["203.0.114.7"])
    assert Handler.seen == []


def test_an_allowed_inside_host_is_called_by_its_name(port: int) -> None:
    reply = outbound_request("GET", f"http://inside.example:{port}/", resolve=to("127.0.0.1"))
    assert (reply.status, reply.body, reply.is_ok) == (200, b"hello", True)
    assert Handler.seen == [("/", f"inside.example:{port}")]
    with pytest.raises(Refused):
        outbound_request("GET", f"http://other.example:{port}/", resolve=to("127.0.0.1"))


def test_a_redirect_is_an_answer_and_is_not_followed(port: int) -> None:
    reply = outbound_request("GET", f"http://inside.example:{port}/redirect", resolve=to("127.0.0.1"))
    assert (reply.status, reply.headers["location"]) == (302, "http://169.254.169.254/latest/meta-data/")
    assert len(Handler.seen) == 1


def test_a_body_that_is_too_large_is_cut_off(port: int) -> None:
    url = f"http://inside.example:{port}/large"
    assert len(outbound_request("GET", url, resolve=to("127.0.0.1"), max_bytes=2000).body) == 2000
    with pytest.raises(Refused, match="1,999 bytes"):
        outbound_request("GET", url, resolve=to("127.0.0.1"), max_bytes=1999)


def test_a_peer_that_drips_does_not_hold_us_beyond_the_time_of_the_call(port: int) -> None:
    start = time.monotonic()
    with pytest.raises(Unreachable) as late:
        outbound_request("GET", f"http://inside.example:{port}/endless", resolve=to("127.0.0.1"), timeout_seconds=1)
    assert late.value.is_retryable
    assert time.monotonic() - start < 30  # it would drip for a minute


def test_an_answer_says_whether_a_retry_can_help(port: int) -> None:
    url = f"http://inside.example:{port}"
    assert outbound_request("GET", f"{url}/busy", resolve=to("127.0.0.1")).is_retryable
    assert not outbound_request("GET", url, resolve=to("127.0.0.1")).is_retryable


def test_nobody_at_the_port_is_worth_a_retry(settings: Any) -> None:
    settings.PILOTHOUSE_OUTBOUND_ALLOW = ("127.0.0.1:1",)
    with pytest.raises(Unreachable) as gone:
        outbound_request("GET", "http://127.0.0.1:1/")
    assert gone.value.is_retryable


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's context, a client's context that trusts it)."""
    key, moment = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names: list[x509.GeneralName] = [x509.DNSName(name)]
    found = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(moment - timedelta(days=1))
        .not_valid_after(moment + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(found.public_bytes(serialization.Encoding.PEM) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


def test_tls_is_checked_by_name_although_the_connection_goes_to_an_address(settings: Any, tmp_path: Path) -> None:
    server, trusting = certificate(tmp_path, "inside.example")
    Handler.seen.clear()
    with serving(server) as port:
        settings.PILOTHOUSE_OUTBOUND_ALLOW = (f"inside.example:{port}", f"other.example:{port}")
        here = to("127.0.0.1")
        fine = outbound_request("GET", f"https://inside.example:{port}/", resolve=here, ssl_context=trusting)
        assert fine.body == b"hello"
        with pytest.raises(Unreachable, match="certificate") as wrong:
            outbound_request("GET", f"https://other.example:{port}/", resolve=here, ssl_context=trusting)
        assert not wrong.value.is_retryable
        with pytest.raises(Unreachable, match="certificate"):
            outbound_request("GET", f"https://inside.example:{port}/", resolve=here)
    assert len(Handler.seen) == 1


def test_the_proxies_of_the_environment_are_not_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert outbound_request("GET", f"http://inside.example:{port}/", resolve=to("127.0.0.1")).is_ok
