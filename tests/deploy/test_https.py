"""Production settings behind a proxy that ends TLS: the real web process, and what it tells browsers and strangers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.mlflow_protocol.server import ROOT, Server, run, serving

pytestmark = pytest.mark.timeout(600)  # the server migrates a database of its own first
HOST = "pilothouse.example.com"
ORIGIN = f"https://{HOST}"
PASSWORD = "one sentence for one test"
BY_PROXY = {"Host": HOST, "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
PAGES = ("/sign-in", "/", "/api/v1/me", "/no-such-page", "/livez", "/static/favicon.svg")
HSTS = "max-age=31536000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("https")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PILOTHOUSE_BASE_URL", ORIGIN)
        patch.setenv("PILOTHOUSE_ALLOWED_HOSTS", f"127.0.0.1,{HOST}")
        patch.setenv("PILOTHOUSE_AUDIT_SINK", str(tmp_path_factory.mktemp("sink")))
        for name in ("PILOTHOUSE_ARTIFACT_ROOTS", "PILOTHOUSE_TOKEN_ROOTS"):  # wide open for other tests
            patch.delenv(name, raising=False)
        with serving(home, "https") as found:
            run([sys.executable, "manage.py", "collectstatic", "--noinput", "-v", "0"], found.env)
            yield found


@pytest.fixture
def browser(server: Server) -> Iterator[httpx.Client]:
    """As requests come from the proxy; cookies are carried by hand, since httpx would keep secure ones from http."""
    with httpx.Client(base_url=server.url, headers=BY_PROXY, timeout=30) as client:
        yield client


def cookies_of(answer: httpx.Response) -> dict[str, Morsel[str]]:
    found: SimpleCookie = SimpleCookie()
    for text in answer.headers.get_list("set-cookie"):
        found.load(text)
    return dict(found)


def carried(*answers: httpx.Response) -> str:
    jar = {name: one.value for answer in answers for name, one in cookies_of(answer).items()}
    return "; ".join(f"{name}={value}" for name, value in jar.items())


def signed_in(browser: httpx.Client, origin: str = ORIGIN) -> tuple[httpx.Response, httpx.Response]:
    """The page of the sign-in, and the answer to its form sent from ``origin``."""
    page = browser.get("/sign-in")
    form = {"username": "alice", "password": PASSWORD, "csrfmiddlewaretoken": cookies_of(page)["csrftoken"].value}
    headers = {"Cookie": carried(page), "Origin": origin, "Referer": f"{origin}/sign-in"}
    return page, browser.post("/sign-in", data=form, headers=headers)


def test_the_checks_for_production_find_nothing(server: Server) -> None:
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    done = subprocess.run(command, env=server.env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("said", ["https", "http", None])
def test_every_answer_holds_browsers_to_https_whatever_the_proxy_said(
    server: Server, path: str, said: str | None
) -> None:
    headers = {"Host": HOST} if said is None else {"Host": HOST, "X-Forwarded-Proto": said}
    answer = httpx.get(server.url + path, headers=headers, timeout=30)
    assert answer.headers["Strict-Transport-Security"] == HSTS
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if not path.startswith("/static/"):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_cookies_are_secure_and_stay_on_this_site(browser: httpx.Client) -> None:
    page, answer = signed_in(browser)
    assert answer.status_code == 302, answer.text
    session, csrf = cookies_of(answer)["sessionid"], cookies_of(page)["csrftoken"]
    for cookie in (session, csrf):
        assert cookie["secure"] is True
        assert cookie["samesite"] == "Lax"
        assert cookie["domain"] == ""
    assert session["httponly"] is True
    inside = browser.get("/account/", headers={"Cookie": carried(page, answer)})
    assert inside.status_code == 200
    assert "203.0.113.9" in inside.text, "the session shows the caller's address, not the proxy's"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"http://{HOST}", f"https://{HOST}.evil.example", f"https://sub.{HOST}", "null"]
)
def test_a_form_from_another_origin_signs_nobody_in(browser: httpx.Client, origin: str) -> None:
    _, answer = signed_in(browser, origin)
    assert answer.status_code == 403
    assert "sessionid" not in cookies_of(answer)


@pytest.mark.parametrize("host", ["evil.example", f"{HOST}.evil.example", f"{HOST}@evil.example", ""])
def test_a_host_that_is_not_ours_gets_no_page(server: Server, host: str) -> None:
    answer = httpx.get(f"{server.url}/sign-in", headers={"Host": host, "X-Forwarded-Host": HOST}, timeout=30)
    assert answer.status_code == 400


@pytest.mark.parametrize("origin", ["https://evil.example", f"https://{HOST}.evil.example", "null", None])
def test_a_socket_from_another_origin_is_refused_even_with_a_session(
    server: Server, browser: httpx.Client, origin: str | None
) -> None:
    cookie = carried(*signed_in(browser))
    with pytest.raises(InvalidStatus) as refused:
        _socket(server, cookie, origin).close()
    assert refused.value.response.status_code == 403


def test_a_socket_of_our_own_page_opens_with_a_session_and_closes_without(
    server: Server, browser: httpx.Client
) -> None:
    with _socket(server, carried(*signed_in(browser)), ORIGIN) as socket:
        socket.send('{"subscribe": ["fleet"]}')
        socket.ping().wait(30)
    with pytest.raises((ConnectionClosed, InvalidStatus)), _socket(server, "", ORIGIN) as socket:
        socket.recv(timeout=30)


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.example/", "//evil.example/", "/\\evil.example/", "http:evil.example", "javascript:alert(1)",
        f"http://{HOST}/", "https:///evil.example", "\t//evil.example", f"https://{HOST}@evil.example/",
        "%2F%2Fevil.example",
    ],
)  # fmt: skip
def test_no_way_back_leads_to_another_site_or_out_of_https(browser: httpx.Client, onward: str) -> None:
    page = browser.get("/sign-in", params={"next": onward})
    form = {
        "username": "alice", "password": PASSWORD, "next": onward,
        "csrfmiddlewaretoken": cookies_of(page)["csrftoken"].value,
    }  # fmt: skip
    headers = {"Cookie": carried(page), "Origin": ORIGIN, "Referer": f"{ORIGIN}/sign-in"}
    answer = browser.post("/sign-in", data=form, headers=headers)
    assert answer.status_code == 302
    target = httpx.URL(ORIGIN).join(answer.headers["Location"])
    assert (target.scheme, target.host) == ("https", HOST), answer.headers["Location"]


def test_the_home_folder_holds_no_log_with_a_password(server: Server) -> None:
    assert PASSWORD not in Path(server.home / "web.log").read_text(errors="replace")


def _socket(server: Server, cookie: str, origin: str | None) -> ClientConnection:
    address = server.url.replace("http://", "ws://") + "/live"
    return connect(
        address,
        origin=Origin(origin) if origin else None,
        additional_headers={"Cookie": cookie},
        open_timeout=30,
        proxy=None,
    )
