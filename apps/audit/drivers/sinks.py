"""Where signed checkpoints go outside: a folder, any fsspec address, or an HTTP POST. Each takes one twice unharmed.

A folder gets one growing file, ``checkpoints.jsonl``. Object stores cannot append, so there each checkpoint is an
object of its own, ``checkpoint-000000000012.json``; give the bucket an object lock and a key that can only create.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import fsspec

from apps.kernel.outbound import OutboundFault, outbound_request

SECONDS = 10.0
FILE = "checkpoints.jsonl"
_TAIL_BYTES = 4096


class SinkFault(Exception):
    """The sink does not have the checkpoint; ``is_retryable`` says whether waiting can help."""

    def __init__(self, sentence: str, *, is_retryable: bool = True) -> None:
        super().__init__(sentence)
        self.is_retryable = is_retryable


class Sink(Protocol):
    """Takes a checkpoint's document. Raises SinkFault; may be called again with the same one."""

    def put(self, document: Mapping[str, Any]) -> None: ...


def sink_at(address: str) -> Sink:
    """The sink of a setting: ``/folder``, ``file:///folder``, ``https://…``, or what fsspec knows (``s3://…``)."""
    scheme, mark, rest = address.partition("://")
    if not mark or scheme == "file":
        return FolderSink(Path(rest if mark else address))
    return HttpSink(address) if scheme in {"http", "https"} else ObjectSink(address)


class FolderSink:
    """One JSONL file, only ever appended to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def put(self, document: Mapping[str, Any]) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                last, is_whole = _last_number(file)
                if last >= document["number"]:
                    return
                # a line that a crash cut off stays as it is; the checkpoint it was is written again, whole
                file.write((b"" if is_whole else b"\n") + _line(document))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkFault(f"{self.path.parent}: {error.strerror or error}") from error


class ObjectSink:
    """One object per checkpoint, never written over."""

    def __init__(self, address: str) -> None:
        self.address = address

    def put(self, document: Mapping[str, Any]) -> None:
        try:
            system, root = fsspec.core.url_to_fs(self.address)
        except (ImportError, ValueError) as error:
            raise SinkFault(f"{self.address}: {error}", is_retryable=False) from error
        path = f"{root.rstrip('/')}/checkpoint-{document['number']:012d}.json"
        line = _line(document)
        try:
            if system.exists(path):
                if system.cat_file(path) != line:
                    raise SinkFault(f"{path} exists already and says something else", is_retryable=False)
                return
            system.makedirs(root, exist_ok=True)
            system.pipe_file(path, line)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise SinkFault(f"{path}: {type(error).__name__}: {error}") from error


class HttpSink:
    """A POST of the document; any 2xx is an answer, and so is 409: it is there already. By the product's one way out:
    an inner address is refused unless PILOTHOUSE_OUTBOUND_ALLOW names it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def put(self, document: Mapping[str, Any]) -> None:
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": f"audit-checkpoint-{document['key_id']}-{document['number']}",
        }
        host = urlsplit(self.address).hostname or self.address
        try:
            answer = outbound_request(
                "POST", self.address, headers=headers, body=_line(document), timeout_seconds=SECONDS
            )
        except OutboundFault as fault:
            raise SinkFault(fault.detail, is_retryable=fault.is_retryable) from fault
        if not answer.is_ok and answer.status != HTTPStatus.CONFLICT:
            raise SinkFault(
                f"{host} answered {answer.status}", is_retryable=answer.is_retryable or answer.status >= 500
            )


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def _last_number(file: Any) -> tuple[int, bool]:
    """(the newest number in the file or 0, whether its last line is whole)."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TAIL_BYTES))
    tail = file.read()
    number = 0
    for line in tail.splitlines():
        try:
            number = max(number, int(json.loads(line)["number"]))
        except (ValueError, KeyError, TypeError):
            continue  # the cut-off beginning of the tail, or what a crash left behind
    return number, not tail or tail.endswith(b"\n")
