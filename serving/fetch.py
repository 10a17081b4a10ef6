"""`python -m serving.fetch`: bring an artifact from the registry into a folder, byte for byte, before a server starts.

Run by an init container, and by the build of an image. Standard library only, so that it runs before anything is
installed. The digest is the address: whatever the registry answers, the folder ends with exactly that digest, or the
program fails. Files that are there already and right are kept, so a run that was killed is cheap to repeat.

FetchError
|-- FetchRefusedError   asking again cannot help: no right, no such artifact, a wrong digest     exit code 3
`-- FetchFailedError    the registry did not answer in time, after all retries                   exit code 1
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit

from serving.artifact import ArtifactIrregularError, artifact_digest
from serving.settings import FetchSettings, fetch_settings

T = TypeVar("T")
ROUTE = "api/2.0/mlflow-artifacts/artifacts"
PIECE = 1 << 20
ATTEMPTS = 6
FIRST_DELAY, LONGEST_DELAY = 0.5, 20.0
ANSWER_SECONDS = 30.0
"""For one read of the socket, not for a file: a large file may take as long as bytes keep coming."""
MOST_FILES = 100_000
PARTIAL = ".pilothouse-partial"
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
EXIT_FAILED, EXIT_REFUSED = 1, 3


class FetchError(Exception):
    """`code` is for programs; the text holds no credential and no content of a file."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class FetchRefusedError(FetchError):
    pass


class FetchFailedError(FetchError):
    """`after_seconds`: what the registry said in Retry-After."""

    def __init__(self, code: str, detail: str, after_seconds: float = 0.0) -> None:
        super().__init__(code, detail)
        self.after_seconds = after_seconds


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    size: int


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token to whatever host it names."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        fp.close()
        raise FetchRefusedError("redirected", f"the registry redirects ({code}); give its own address with --url")


class Registry:
    """Reads of one artifact. Every call has a timeout and is tried again where that can help, until `seconds` are over.

    `clock` and `sleep` are for tests.
    """

    def __init__(
        self,
        settings: FetchSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise FetchRefusedError("bad_url", "--url (PILOTHOUSE_URL) must be an http:// or https:// address")
        self._base = f"{settings.url.rstrip('/')}/{ROUTE}"
        self._name = settings.digest.removeprefix("sha256:")
        self._headers = {"Authorization": f"Bearer {settings.token}", "User-Agent": "pilothouse-fetch/1"}
        self._clock, self._sleep = clock, sleep
        self._end_at = clock() + settings.seconds
        self._opener = urllib.request.build_opener(_StayHere())

    def files(self, folder: str = "") -> Iterator[_File]:
        """Every file below `folder`, depth first."""
        place = f"{self._name}/{folder}".rstrip("/")
        answer = self._retrying(lambda: self._listing(place))
        for item in answer:
            name = item.get("path")
            # what a server names must not lead anywhere but into the folder
            if not isinstance(name, str) or name in {"", ".", ".."} or any(part in name for part in ("/", "\\", "\0")):
                raise FetchRefusedError("bad_listing", "the registry names a file that no folder can hold")
            path = f"{folder}/{name}".lstrip("/")
            if item.get("is_dir"):
                yield from self.files(path)
            else:
                yield _File(path, int(item.get("file_size") or 0))

    def fetch(self, file: _File, place: Path, partial: Path) -> None:
        """Write one file, compared with the hash that the registry names for it, and only then give it its name."""
        if self._retrying(lambda: self._download(file, place, partial)):
            place.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(place)

    def _listing(self, place: str) -> list[dict[str, Any]]:
        with self._open(f"?path={quote(place, safe='')}") as response:
            try:
                found = json.loads(response.read())["files"]
            except (ValueError, KeyError, TypeError) as error:
                raise FetchRefusedError("bad_answer", "that address does not answer like a registry") from error
        return list(found)

    def _download(self, file: _File, place: Path, partial: Path) -> bool:
        """False when ``place`` holds those very bytes already."""
        seen = hashlib.sha256()
        with self._open(f"/{self._name}/{quote(file.path)}") as response:
            named = str(response.headers.get("ETag") or "").strip('"')
            announced = response.headers.get("Content-Length")
            if place.is_file() and named == _sha256(place):
                return False
            with partial.open("wb") as out:
                while piece := response.read(PIECE):
                    seen.update(piece)
                    out.write(piece)
                    self._check_time()
            # reading piece by piece, the library takes a cut connection for the end
            if announced is not None and partial.stat().st_size != int(announced):
                raise FetchFailedError("cut", f"the answer with {file.path} was cut short")
        if named and named != seen.hexdigest():
            raise FetchFailedError("damaged", f"{file.path} arrived with other bytes than the registry announced")
        return True

    def _open(self, rest: str) -> http.client.HTTPResponse:
        request = urllib.request.Request(self._base + rest, headers=self._headers)  # noqa: S310  scheme is checked
        try:
            found: http.client.HTTPResponse = self._opener.open(request, timeout=ANSWER_SECONDS)
        except urllib.error.HTTPError as error:
            with error:
                raise _refusal(error) from error
        return found

    def _retrying(self, call: Callable[[], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            self._check_time()
            try:
                return call()
            except FetchFailedError as error:
                fault = error
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                why = getattr(error, "reason", None) or type(error).__name__
                fault = FetchFailedError("no_answer", f"the registry does not answer: {why}")
            if attempt == ATTEMPTS:
                raise fault
            longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** (attempt - 1))
            self._sleep(max(longest * random.uniform(0.5, 1.0), min(fault.after_seconds, 60.0)))  # noqa: S311
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _check_time(self) -> None:
        if self._clock() > self._end_at:
            raise FetchRefusedError("out_of_time", "the time is over; give more with --seconds")


def fetch_artifact(settings: FetchSettings, registry: Registry) -> Path:
    """The folder, complete and verified. Raises FetchError, OSError."""
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / PARTIAL
    partial.unlink(missing_ok=True)
    if _digest(folder) == settings.digest:
        return folder
    files = list(registry.files())
    if len(files) > MOST_FILES:
        raise FetchRefusedError("too_many_files", f"the artifact has more than {MOST_FILES} files")
    _check_room(folder, files)
    try:
        for file in files:
            registry.fetch(file, folder / file.path, partial)
    finally:
        partial.unlink(missing_ok=True)
    verify(folder, settings.digest)
    return folder


def verify(folder: Path, digest: str) -> None:
    """Raises FetchRefusedError when the folder is not exactly the artifact."""
    found = _digest(folder)
    if found != digest:
        raise FetchRefusedError("digest_mismatch", f"{folder} has digest {found}, wanted is {digest}")


def _digest(folder: Path) -> str:
    try:
        return artifact_digest(folder)
    except ArtifactIrregularError as error:
        raise FetchRefusedError("irregular", f"the folder cannot hold an artifact: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_room(folder: Path, files: Sequence[_File]) -> None:
    present = sum(file.size for file in files if (folder / file.path).is_file())
    needed, free = sum(file.size for file in files) - present, shutil.disk_usage(folder).free
    if needed > free:
        raise FetchRefusedError("no_room", f"the artifact needs {needed:,} bytes more, {folder} has {free:,} free")


def _refusal(error: urllib.error.HTTPError) -> FetchError:
    """What an HTTP error means, in words; the registry's own sentence where it has one."""
    if error.code in PASSING:
        after = error.headers.get("Retry-After", "")
        return FetchFailedError(
            f"http_{error.code}",
            f"the registry answered {error.code}",
            float(after) if after.isdecimal() else 0.0,
        )
    try:
        said = str(json.loads(error.read(65_536)).get("message", ""))[:500]
    except (ValueError, AttributeError, OSError):
        said = ""
    known = {
        401: ("token_refused", "the registry does not accept the token (PILOTHOUSE_TOKEN_FILE)"),
        403: ("not_allowed", "the token may not read this model"),
        404: ("unknown", "the registry has no verified version with this digest that the token may read"),
    }
    code, sentence = known.get(error.code, (f"http_{error.code}", f"the registry answered {error.code}"))
    return FetchRefusedError(code, f"{sentence}{f': {said}' if said else ''}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0 there and verified, 1 no answer, 2 usage, 3 it never will; the last line of stderr says why."""
    parser = argparse.ArgumentParser(
        prog="serving.fetch",
        description="Fetch an artifact from the registry and check its digest. The token comes from a file "
        "(--token-file, PILOTHOUSE_TOKEN_FILE) or from PILOTHOUSE_TOKEN, never from an argument.",
    )
    parser.add_argument("--digest", help="sha256:…, or ARTIFACT_DIGEST")
    parser.add_argument("--to", help="the folder, or ARTIFACT_PATH")
    parser.add_argument("--url", help="where the registry is, or PILOTHOUSE_URL")
    parser.add_argument("--token-file", help="a file with an API key that may read the model")
    parser.add_argument("--seconds", type=float, default=1800.0, help="for all of it (1800)")
    parser.add_argument("--check", action="store_true", help="fetch nothing, only compare what is there")
    given = parser.parse_args(arguments)
    try:
        settings = fetch_settings(
            digest=given.digest, folder=given.to, url=given.url, token_file=given.token_file, seconds=given.seconds,
            is_offline=given.check,
        )  # fmt: skip
    except ValueError as error:
        parser.exit(2, f"serving.fetch: {error}\n")
    try:
        if given.check:
            verify(settings.folder, settings.digest)
        else:
            fetch_artifact(settings, Registry(settings))
    except FetchError as error:
        return _say(error.code, str(error), EXIT_FAILED if isinstance(error, FetchFailedError) else EXIT_REFUSED)
    except OSError as error:
        return _say("folder", f"{settings.folder}: {error.strerror or type(error).__name__}", EXIT_REFUSED)
    print(json.dumps({"event": "fetched", "digest": settings.digest, "folder": str(settings.folder)}), file=sys.stderr)
    return 0


def _say(code: str, detail: str, exit_code: int) -> int:
    print(json.dumps({"event": "fetch_failed", "code": code, "detail": detail}), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
