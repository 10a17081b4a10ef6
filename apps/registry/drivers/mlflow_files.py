"""Where an MLflow server hands out the files of a version: by its artifact proxy, or by the doors of its own pages.

A server whose runs lie on its own disk or in its own bucket gives an address that means nothing here, but it reads the
files for its pages: they are listed by the logged model or the run, and fetched by the model version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode, urlsplit

from apps.registry.domain.archives import path_problem
from apps.registry.drivers.mlflow_registry import API, MlflowRegistry, RemoteFault, objects

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_FILES = 10_000
FILE_SECONDS = 300.0
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9A-Za-z]{1,60})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sought:
    """A version elsewhere, and the address that its server gives for its files."""

    name: str
    number: int
    uri: str
    source: str = ""
    run_id: str = ""
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class Door:
    """The calls that list a folder and fetch a file; both are given paths below the version's own folder."""

    listing: Callable[[str], str]
    file: Callable[[str], str]


def proxy_door(remote: MlflowRegistry, uri: str) -> Door | None:
    """For files that the server hands out itself (``mlflow-artifacts:``, its own address), else None."""
    parts, own = urlsplit(uri), urlsplit(remote.url)
    if parts.scheme == "mlflow-artifacts" and parts.netloc in {"", own.netloc}:
        root = parts.path.strip("/")
    elif parts.scheme in {"http", "https"} and parts.netloc == own.netloc and _ARTIFACTS in parts.path:
        root = parts.path.partition(_ARTIFACTS)[2].strip("/")
    else:
        return None
    if not root or path_problem(root):
        return None
    return Door(
        listing=lambda folder: f"{_ARTIFACTS}?{urlencode({'path': _joined(root, folder)})}",
        file=lambda path: f"{_ARTIFACTS}/{quote(_joined(root, path))}",
    )


def page_door(remote: MlflowRegistry, sought: Sought) -> Door | None:
    """For files that the server reads for its own pages: those of a logged model or below a run; None for others."""
    match = _LOGGED_MODEL.fullmatch(sought.source)
    model_id = sought.model_id or (match.group(1) if match else "")
    listings: list[tuple[str, dict[str, str], str]] = []
    if model_id:
        listings.append((f"{API}/logged-models/{quote(model_id, safe='')}/artifacts/directories", {}, _FOLDER))
    if sought.run_id:
        listings.append((f"{API}/artifacts/list", {"run_id": sought.run_id}, "path"))
    for call, fixed, key in listings:
        root = _root_of(remote, f"{call}?{urlencode(fixed)}")
        below = None if root is None else _below(sought.uri, root)
        if below is not None and not (below and path_problem(below)):
            return _page_door(sought, call, fixed, key, below)
    return None


def files(remote: MlflowRegistry, door: Door) -> Iterator[str]:
    """The paths of all files, relative to the version's folder. Raises RemoteFault."""
    waiting, count = [""], 0
    while waiting:
        folder = waiting.pop()
        for one in objects(remote.ask(door.listing(folder)), "files"):
            path = _joined(folder, str(one.get("path") or "").rpartition("/")[2])
            count += 1
            if path_problem(path) or count > MAX_FILES:
                raise RemoteFault("remote_files", f"The files cannot be taken: {path[:100]!r} is one too many or bad.")
            if one.get("is_dir"):
                waiting.append(path)
            else:
                yield path


def file(remote: MlflowRegistry, door: Door, path: str) -> bytes:
    """One file's bytes, at most MAX_FILE_BYTES. Raises RemoteFault."""
    return remote.fetch(door.file(path), MAX_FILE_BYTES, FILE_SECONDS)


_FOLDER = "artifact_directory_path"


def _page_door(sought: Sought, call: str, fixed: dict[str, str], key: str, below: str) -> Door:
    def listing(folder: str) -> str:
        place = _joined(below, folder)
        return f"{call}?{urlencode({**fixed, key: place} if place else fixed)}"

    version = {"name": sought.name, "version": str(sought.number)}
    return Door(
        listing=listing, file=lambda path: f"/model-versions/get-artifact?{urlencode({**version, 'path': path})}"
    )


def _root_of(remote: MlflowRegistry, call: str) -> str | None:
    """Where the server says that the listed files lie; None for a run or model that it does not have (any more)."""
    try:
        return str(remote.ask(call).get("root_uri") or "") or None
    except RemoteFault as fault:
        if fault.is_retryable or fault.code != "remote_status":
            raise
        return None


def _below(uri: str, root: str) -> str | None:
    """The path of ``uri`` below ``root``, "" for the same place, None for another one."""
    place, base = _plain(uri), _plain(root)
    if place == base:
        return ""
    return place.removeprefix(f"{base}/") if place.startswith(f"{base}/") else None


def _plain(uri: str) -> str:
    return (unquote(urlsplit(uri).path) if uri.startswith("file:") else uri).rstrip("/")


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name
