"""Calls of the API: a key, repeats with growing delays, problem details as errors."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from cli.exits import CliError, Exit, exit_of_status

ATTEMPTS = 6
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
PASSING = frozenset({429, 502, 503, 504})
ANSWER_SECONDS = 60.0
NEVER_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
UNKNOWN_OUTCOME = frozenset({502, 504})


def is_address(url: str) -> bool:
    """Whether a client can be made from it."""
    try:
        parts = httpx.URL(url)
        return parts.scheme in {"http", "https"} and bool(parts.host) and (parts.port is None or 0 < parts.port < 65536)
    except (httpx.InvalidURL, UnicodeError):
        return False


class Client:
    """One server and one key. What gets no answer is repeated where that is safe: reads by nature, POSTs by their
    Idempotency-Key, removals because a thing that is gone is gone. A PUT that says what it saw is not: it would refuse
    its own success."""

    def __init__(self, url: str, token: str, *, attempts: int = ATTEMPTS, first_delay: float = FIRST_DELAY) -> None:
        self.url = url.rstrip("/")
        self._attempts, self._first_delay = attempts, first_delay
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}", "User-Agent": "pilothouse-cli/1"}
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/", headers=headers, timeout=httpx.Timeout(ANSWER_SECONDS, connect=10.0)
        )

    def get(self, *path: str, **query: Any) -> dict[str, Any]:
        """Raises CliError. ``path`` parts are quoted; a query value of None is left out."""
        return self._send("GET", path, query, None, {})

    def post(self, *path: str, body: Mapping[str, Any], key: str | None = None, **query: Any) -> dict[str, Any]:
        """``key``: the Idempotency-Key; one is made where none is given, so that a repeat does nothing twice."""
        return self._send("POST", path, query, body, {"Idempotency-Key": key or str(uuid.uuid4())})

    def put(self, *path: str, body: Mapping[str, Any], **query: Any) -> dict[str, Any]:
        """Repeated only when it surely never arrived."""
        return self._send("PUT", path, query, body, {}, is_repeatable=False)

    def patch(
        self, *path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None, **query: Any
    ) -> dict[str, Any]:
        """Repeated only when it surely never arrived: a renamed thing is not found under its old name."""
        return self._send("PATCH", path, query, body, dict(headers or {}), is_repeatable=False)

    def delete(self, *path: str, headers: Mapping[str, str] | None = None, **query: Any) -> dict[str, Any]:
        """Removing what an earlier attempt has removed already is a success."""
        return self._send("DELETE", path, query, None, dict(headers or {}))

    def pages(self, *path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """Every item of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(*path, limit=200, cursor=cursor, **query)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def close(self) -> None:
        self._http.close()

    def _send(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, Any],
        body: Mapping[str, Any] | None,
        headers: dict[str, str],
        *,
        is_repeatable: bool = True,
    ) -> dict[str, Any]:
        address = "/".join(quote(part, safe="") for part in path)
        params = {name: _text(value) for name, value in query.items() if value is not None}
        is_unanswered = False
        for attempt in range(1, self._attempts + 1):
            is_last = attempt == self._attempts
            try:
                response = self._http.request(method, address, params=params, json=body, headers=headers)
            except httpx.TransportError as error:
                if is_last or not (is_repeatable or isinstance(error, NEVER_ARRIVED)):
                    raise _silence(self.url, error, is_repeatable) from error
                is_unanswered = is_unanswered or not isinstance(error, NEVER_ARRIVED)
                time.sleep(self._delay(attempt, None))
                continue
            if response.is_success or (method == "DELETE" and response.status_code == 404 and is_unanswered):
                return _object(self.url, response)
            problem = _problem(response)
            is_passing = _is_passing(response.status_code, problem, is_repeatable)
            is_unanswered = is_unanswered or response.status_code in UNKNOWN_OUTCOME
            if is_last or not is_passing:
                raise _error(response.status_code, problem, response.headers.get("X-Request-ID"))
            time.sleep(self._delay(attempt, response.headers.get("Retry-After")))
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _delay(self, attempt: int, retry_after: str | None) -> float:
        """Doubling, with jitter so that a hundred jobs do not come back at once; the server's own wish wins."""
        if retry_after is not None and retry_after.isdecimal():
            return min(float(retry_after), LONGEST_DELAY)
        longest: float = min(self._first_delay * 2.0 ** (attempt - 1), LONGEST_DELAY)
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  spreads load, guards nothing


def read_token(token: str | None, token_file: Path | None) -> str:
    """The key from the environment or a file; never from the command line, where every process can read it."""
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CliError(Exit.USAGE, f"The key's file {token_file} cannot be read: {error}") from error
    text = (token or "").strip()
    if not text:
        raise CliError(Exit.AUTH, "No API key. Set PILOTHOUSE_TOKEN, or PILOTHOUSE_TOKEN_FILE or --token-file.")
    if not text.isascii() or not text.isprintable():
        raise CliError(Exit.AUTH, "That is no API key; one looks like plh_….")
    return text


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_passing(status: int, problem: Mapping[str, Any], is_repeatable: bool) -> bool:
    """Whether the same call may succeed later, and may be made again."""
    if status in UNKNOWN_OUTCOME and not is_repeatable:
        return False
    # A target that says a retry cannot help is believed.
    is_hopeless = status == 503 and problem.get("retryable") is False
    in_flight = problem.get("code") in {"idempotency_in_flight", "idempotency_claim_lost"}
    return (status in PASSING and not is_hopeless) or in_flight


def _silence(url: str, error: httpx.TransportError, is_repeatable: bool) -> CliError:
    sentence = f"{url} does not answer: {error or type(error).__name__}"
    if isinstance(error, NEVER_ARRIVED):
        return CliError(Exit.FAILED, f"{sentence}\n  Is --url (PILOTHOUSE_URL) right, and is the server running?")
    if not is_repeatable:
        return CliError(Exit.FAILED, f"{sentence}\n  It may have been carried out: look before you repeat it.")
    return CliError(Exit.FAILED, sentence)


def _object(url: str, response: httpx.Response) -> dict[str, Any]:
    if response.status_code in {204, 404}:
        return {}
    try:
        data = response.json()
    except ValueError as error:
        raise CliError(Exit.FAILED, f"{url} answers with something else than JSON; is it Pilothouse?") from error
    if not isinstance(data, dict):
        raise CliError(Exit.FAILED, f"{url} answers with something else than an object; is it Pilothouse?")
    return data


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        data = response.json()
    except ValueError:
        data = None
    return data if isinstance(data, dict) else {"status": response.status_code, "detail": response.reason_phrase}


def _error(status: int, problem: dict[str, Any], request_id: str | None) -> CliError:
    """What is wrong, where, what could be asked instead, and under which id the server's log has it."""
    lines = [str(problem.get("detail") or problem.get("title") or f"HTTP {status}")]
    for item in problem.get("errors") or []:
        where = item.get("pointer") or "the body"
        lines.append(f"  at {where}" if item.get("detail") == lines[0] else f"  {where}: {item.get('detail')}")
    if problem.get("allowed_actions"):
        lines.append(f"  possible now: {', '.join(problem['allowed_actions'])}")
    if status == 401:
        lines.append("  A person makes a key on the page Account; give it by PILOTHOUSE_TOKEN or --token-file.")
    code, instance = problem.get("code") or f"HTTP {status}", problem.get("instance") or request_id
    lines.append(f"  ({code}, request {instance})" if instance else f"  ({code})")
    return CliError(exit_of_status(status, problem), "\n".join(lines), problem)
