"""Token buckets on a real Redis: what they let through, what they say, and what happens without Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from apps.kernel import rate_limit
from apps.kernel.rate_limit import Policy, Taken, policies, rate_limit_take


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    rate_limit._breaker.close()
    yield
    rate_limit._breaker.close()


def somebody() -> str:
    return f"key:{uuid4().hex}"


def test_a_burst_goes_through_and_then_it_says_how_long_to_wait(settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "read=0.01/5"
    who = somebody()
    taken = [rate_limit_take("read", who) for _ in range(6)]
    assert [item.is_allowed for item in taken] == [True] * 5 + [False]
    assert [item.remaining for item in taken[:5]] == [4, 3, 2, 1, 0]
    assert 90 <= taken[5].retry_after_seconds <= 100
    assert taken[5].headers()["Retry-After"] == str(taken[5].retry_after_seconds)
    assert rate_limit_take("read", somebody()).is_allowed
    assert rate_limit_take("write", who).is_allowed


def test_a_bucket_refills_with_time(settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "read=20/2"
    who, until = somebody(), time.monotonic() + 30
    while rate_limit_take("read", who).is_allowed and time.monotonic() < until:
        pass
    while not rate_limit_take("read", who).is_allowed and time.monotonic() < until:
        time.sleep(0.01)
    assert time.monotonic() < until


def test_callers_at_the_same_time_never_get_more_than_there_is(settings: Any) -> None:
    settings.PILOTHOUSE_LIMITS = "read=0.001/50"
    who = somebody()
    with ThreadPoolExecutor(16) as pool:
        allowed = list(pool.map(lambda _: rate_limit_take("read", who).is_allowed, range(200)))
    assert sum(allowed) == 50


def test_the_headers_are_those_of_the_draft() -> None:
    taken = Taken(Policy("read", 10.0, 100), is_allowed=True, remaining=40, retry_after_seconds=0)
    assert taken.headers() == {"RateLimit-Policy": '"read";q=100;w=10', "RateLimit": '"read";r=40;t=6'}


def test_without_redis_reads_go_on_and_guessing_does_not(settings: Any) -> None:
    settings.PILOTHOUSE_REDIS_URL = "redis://127.0.0.1:1/0"
    assert {name: rate_limit_take(name, somebody()).is_allowed for name in policies()} == {
        "read": True,
        "write": True,
        "ingest": True,
        "auth": False,
    }
    assert rate_limit_take("auth", somebody()).headers() == {"Retry-After": "2"}


def test_a_dead_redis_is_asked_about_once_a_second_and_not_by_every_request(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PILOTHOUSE_REDIS_URL = "redis://127.0.0.1:1/0"
    asked = []
    real = rate_limit._script
    monkeypatch.setattr(rate_limit, "_script", lambda url: asked.append(url) or real(url))
    for _ in range(100):
        rate_limit_take("read", "somebody")
    assert len(asked) <= 2


def test_redis_that_comes_back_counts_again(settings: Any) -> None:
    good, settings.PILOTHOUSE_REDIS_URL = settings.PILOTHOUSE_REDIS_URL, "redis://127.0.0.1:1/0"
    assert not rate_limit_take("auth", "x").is_counted
    settings.PILOTHOUSE_REDIS_URL, until = good, time.monotonic() + 30
    while not rate_limit_take("auth", somebody()).is_counted and time.monotonic() < until:
        time.sleep(0.05)
    assert time.monotonic() < until


@pytest.mark.parametrize("text", ["read", "read=", "read=0/5", "read=-1/5", "other=1/1", "read=nan/5", "read=1/0"])
def test_limits_that_mean_nothing_are_refused(settings: Any, text: str) -> None:
    settings.PILOTHOUSE_LIMITS = text
    with pytest.raises(ValueError, match="PILOTHOUSE_LIMITS"):
        policies()


def test_a_class_that_nobody_declared_is_a_mistake_in_the_program() -> None:
    with pytest.raises(ValueError, match="undeclared"):
        rate_limit_take("other", "x")


@pytest.mark.django_db
class TestTheDoors:
    def test_an_answer_says_what_is_left(self) -> None:
        answer = Client().get("/api/v1/openapi.json", headers={"Authorization": f"Bearer {somebody()}"})
        assert answer["RateLimit-Policy"].startswith('"read";q=')
        assert answer["RateLimit"].startswith('"read";r=')

    def test_too_many_is_429_with_problem_details_for_programs_and_a_page_for_people(self, settings: Any) -> None:
        settings.PILOTHOUSE_LIMITS = "read=0.01/1,auth=100/1000"
        bearer = {"Authorization": f"Bearer {somebody()}"}
        Client().get("/api/v1/openapi.json", headers=bearer)
        answer = Client().get("/api/v1/openapi.json", headers=bearer)
        assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
        assert answer.json()["code"] == "rate_limited"
        assert int(answer["Retry-After"]) >= 1
        address = f"10.1.{uuid4().int % 250}.{uuid4().int % 250}"
        Client().get("/sign-in", REMOTE_ADDR=address)
        page = Client().get("/sign-in", REMOTE_ADDR=address)
        assert (page.status_code, page["Content-Type"]) == (429, "text/html; charset=utf-8")
        assert "Too many requests" in page.content.decode()

    def test_made_up_keys_are_charged_to_the_address_that_makes_them_up(self, settings: Any) -> None:
        settings.PILOTHOUSE_LIMITS = "auth=0.01/3"
        address = f"10.2.{uuid4().int % 250}.{uuid4().int % 250}"
        codes = [
            Client()
            .get("/api/v1/me", headers={"Authorization": f"Bearer {somebody()}"}, REMOTE_ADDR=address)
            .status_code
            for _ in range(5)
        ]
        assert codes == [401, 401, 401, 429, 429]

    def test_sign_in_is_refused_while_nobody_can_count(self, settings: Any) -> None:
        settings.PILOTHOUSE_REDIS_URL = "redis://127.0.0.1:1/0"
        answer = Client().post("/sign-in", {"username": "alice", "password": "x"})
        assert (answer.status_code, answer["Retry-After"]) == (503, "2")
        assert Client().get("/sign-in").status_code == 200
