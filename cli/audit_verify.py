"""Checks an export of Pilothouse's audit log with nothing but the export: Python and `cryptography`, no product code.

    python audit_verify.py EXPORT.jsonl [--checkpoints FILE] [--keys FILE] [--partial]

The rules are written down in docs/concepts/audit.md; this file follows the text, not the product. Exit code 0: intact;
1: something is wrong, and the first bad entry is named; 2: the files cannot be read or checked.

1. every line is read once, in order; the header says whether the export is whole;
2. each entry must have the next number, name the hash of the one before it, and have the hash that it carries;
3. each checkpoint must be signed by a known key, name the checkpoint before it, and be right about its entry;
4. an entry that a checkpoint signed, or that the last line counts, must be there.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

GENESIS = "sha256:" + "0" * 64


class Unusable(Exception):
    """The files cannot be checked at all; the text says why."""


class Bad(Exception):
    """Something is wrong; ``seq`` is the first entry that is, ``suspect_from`` where it may have begun."""

    def __init__(self, seq: int, reason: str, suspect_from: int | None = None) -> None:
        super().__init__(reason)
        self.seq, self.reason, self.suspect_from = seq, reason, suspect_from


@dataclass
class Report:
    """What was found. ``first_bad`` is None when all is right."""

    entries: int = 0
    first_seq: int = 0
    last_seq: int = 0
    first_bad: int | None = None
    reason: str = ""
    suspect_from: int | None = None
    checkpoints: int = 0
    signed_seq: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def is_intact(self) -> bool:
        return self.first_bad is None


# --- canonical JSON, by the text of the rule -----------------------------------------------------------------------


def canonical(value: Any) -> str:
    """Names sorted by code point, no spaces, ASCII, one spelling per number."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(inner) for inner in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_text(name)}:{canonical(value[name])}" for name in sorted(value))
        return "{" + ",".join(pairs) + "}"
    raise ValueError(f"{type(value).__name__} is no JSON")


_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "\b": "\\b"}


def _text(value: str) -> str:
    return '"' + "".join(_character(one) for one in value) + '"'


def _character(one: str) -> str:
    if one in _SHORT:
        return _SHORT[one]
    point = ord(one)
    if 0x20 <= point < 0x7F:
        return one
    if point < 0x10000:
        return f"\\u{point:04x}"
    point -= 0x10000
    return f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}"


def _number(value: int | float) -> str:
    if isinstance(value, int):
        return str(value)
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124  NaN is unequal to itself
        raise ValueError("NaN and infinity are no JSON")
    if value == int(value):
        return str(int(Decimal(repr(value))))  # 1.0 is 1, 1e20 is 1 and twenty zeros, -0.0 is 0
    return repr(value)  # the shortest decimal that reads back as the same double


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


# --- entries -------------------------------------------------------------------------------------------------------


def entry_hash(entry: dict[str, Any]) -> str:
    """The hash that an entry must carry. Raises KeyError, TypeError, ValueError for what is no entry."""
    actor, subject = entry["actor"], entry["subject"]
    told = {
        "at": _time(entry["at"]),
        "actor": [actor["kind"], actor["id"], actor["label"]],
        "verb": entry["verb"],
        "subject": [subject["kind"], subject["id"], subject["label"]],
        "detail": entry["detail"],
        "request_id": entry["request_id"],
    }
    if entry["version"] == 1:
        # the first rule left numbers as the database gave them back, so a float keeps its spelling
        body = {**told, "seq": entry["seq"], "prev_hash": entry["prev_hash"]}
        return digest(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False))
    if entry["version"] != 2:
        raise ValueError(f"unknown version {entry['version']!r}")
    inner = digest(canonical({**told, "version": 2, "actor_chain": actor["chain"]}))
    return digest(f"pilothouse-audit/2\n{entry['seq']}\n{entry['prev_hash']}\n{inner}")


def _time(text: str) -> str:
    return datetime.fromisoformat(text).isoformat(timespec="microseconds")


# --- checkpoints ---------------------------------------------------------------------------------------------------


def signed_text(checkpoint: dict[str, Any]) -> bytes:
    fields = {name: checkpoint[name] for name in ("number", "seq", "hash", "at", "prev", "key_id")}
    return b"pilothouse-audit-checkpoint/1\n" + canonical(fields).encode("ascii")


def checkpoint_hash(checkpoint: dict[str, Any]) -> str:
    text = signed_text(checkpoint) + b"\n" + checkpoint["signature"].encode("ascii")
    return "sha256:" + hashlib.sha256(text).hexdigest()


class Checkpoints:
    """What was signed: by entry number, after signatures and order were checked."""

    def __init__(self, documents: Iterable[dict[str, Any]], keys: dict[str, str]) -> None:
        self.hashes: dict[int, str] = {}
        self.numbers: dict[int, int] = {}
        self.count, self.last_seq = 0, 0
        before: dict[str, Any] | None = None
        for one in sorted({canonical(one): one for one in documents}.values(), key=lambda one: int(one["number"])):
            self._check(one, before, keys)
            self.hashes[one["seq"]], self.numbers[one["seq"]] = one["hash"], one["number"]
            self.count, self.last_seq, before = self.count + 1, one["seq"], one

    def _check(self, one: dict[str, Any], before: dict[str, Any] | None, keys: dict[str, str]) -> None:
        seq, name = one["seq"], f"checkpoint {one['number']}"
        if one["key_id"] not in keys:
            raise Bad(seq, f"{name} is signed by {one['key_id']}, which is none of the given keys")
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(keys[one["key_id"]]))
            public.verify(base64.b64decode(one["signature"]), signed_text(one))
        except (InvalidSignature, ValueError) as error:
            raise Bad(seq, f"the signature of {name} is wrong") from error
        if before is None:
            return
        if one["number"] == before["number"]:
            raise Bad(min(seq, before["seq"]), f"there are two different {name}s, both signed: the log was forked")
        if one["number"] == before["number"] + 1 and one["prev"] != checkpoint_hash(before):
            raise Bad(seq, f"{name} does not name the one before it")
        if seq <= before["seq"]:
            raise Bad(seq, f"{name} is not about a later entry than the one before it")

    def suspect_from(self, seq: int) -> int:
        """The first entry after the newest checkpoint before ``seq``: a rewriting began there or later."""
        return max((known for known in self.hashes if known < seq), default=0) + 1


# --- the export ----------------------------------------------------------------------------------------------------


def verify(
    export: Path, *, checkpoints: Path | None = None, keys: Path | None = None, is_partial: bool = False
) -> Report:
    """Check the files. Raises Unusable."""
    report = Report()
    try:
        with export.open("rb") as lines:
            _verify_lines(_documents(lines), report, checkpoints, keys, is_partial)
    except Bad as bad:
        report.first_bad, report.reason, report.suspect_from = bad.seq, bad.reason, bad.suspect_from
    except OSError as error:
        raise Unusable(f"{error.filename or export} cannot be read: {error.strerror}") from error
    return report


def _verify_lines(
    lines: Iterator[dict[str, Any] | None],
    report: Report,
    checkpoint_file: Path | None,
    key_file: Path | None,
    is_partial: bool,
) -> None:
    header = next(lines, None)
    if header is None or header.get("object") != "audit_export" or header.get("format") != 1:
        raise Unusable("this is no export of an audit log: the first line is not its header")
    if not header.get("is_whole") and not is_partial:
        raise Unusable("this export is filtered, its chain cannot be checked; --partial checks its entries one by one")
    inside: dict[str, list[dict[str, Any]]] = {"audit_key": [], "audit_checkpoint": []}
    place = _Place(report, is_whole=bool(header.get("is_whole")))
    signed: Checkpoints | None = None
    ended = False
    for one in lines:
        if ended:
            raise Bad(place.expected, "there are lines after the end of the export")
        kind = one.get("object") if one is not None else None
        if kind in inside and one is not None and signed is None:
            inside[kind].append(one)
            continue
        if signed is None:
            signed = _signed(inside, report, checkpoint_file, key_file)
        if one is None or kind not in {"audit_event", "audit_export_end"}:
            raise Bad(place.expected, f"the line that should hold entry {place.expected} cannot be read")
        if kind == "audit_export_end":
            place.end(one)
            ended = True
        else:
            place.step(one, signed)
    signed = signed or _signed(inside, report, checkpoint_file, key_file)
    if not ended:
        raise Bad(place.expected, f"the export breaks off after entry {report.last_seq}")
    if place.is_whole and signed.last_seq > report.last_seq:
        raise Bad(
            report.last_seq + 1,
            f"entries up to {signed.last_seq} were signed, but the export ends at {report.last_seq}",
        )


class _Place:
    """Where in the chain the reading is."""

    def __init__(self, report: Report, *, is_whole: bool) -> None:
        self.report, self.is_whole = report, is_whole
        self.prev, self.version = GENESIS, 1

    @property
    def expected(self) -> int:
        return self.report.last_seq + 1

    def step(self, entry: dict[str, Any], signed: Checkpoints) -> None:
        try:
            seq, prev, carried, version = entry["seq"], entry["prev_hash"], entry["hash"], entry["version"]
            right = entry_hash(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Bad(
                self.expected, f"the line that should hold entry {self.expected} is no entry ({error})"
            ) from error
        if self.is_whole:
            self._check_place(seq, prev, version)
        if carried != right:
            raise Bad(seq, f"entry {seq} is not what its hash was made from")
        if signed.hashes.get(seq, carried) != carried:
            since = signed.suspect_from(seq)
            raise Bad(
                seq,
                f"entry {seq} is not the one that checkpoint {signed.numbers[seq]} signed: "
                f"the log was made anew from an entry between {since} and {seq}",
                since,
            )
        if seq in signed.hashes:
            self.report.signed_seq = seq
        self.report.entries += 1
        self.report.first_seq = self.report.first_seq or seq
        self.report.last_seq, self.prev, self.version = seq, carried, version

    def _check_place(self, seq: int, prev: str, version: int) -> None:
        if seq != self.expected:
            raise Bad(self.expected, f"entry {self.expected} is missing; entry {seq} stands in its place")
        if prev != self.prev:
            raise Bad(seq, f"entry {seq} does not name the hash of the entry before it")
        if version < self.version:
            raise Bad(seq, f"entry {seq} is hashed by an older rule than the entry before it")

    def end(self, document: dict[str, Any]) -> None:
        count, last = document.get("count"), document.get("last_seq")
        if count != self.report.entries or last != self.report.last_seq:
            raise Bad(
                self.expected,
                f"the last line counts {count} entries up to {last}, "
                f"the export holds {self.report.entries} up to {self.report.last_seq}",
            )


def _signed(
    inside: dict[str, list[dict[str, Any]]], report: Report, checkpoint_file: Path | None, key_file: Path | None
) -> Checkpoints:
    keys = _keys(key_file) if key_file else {one["key_id"]: one["public"] for one in inside["audit_key"]}
    documents = list(inside["audit_checkpoint"]) + (_sink(checkpoint_file) if checkpoint_file else [])
    if not key_file and documents:
        report.notes.append(
            "The keys were taken from the export itself. Whoever made it anew could have put them there: "
            "give --keys with a copy that was kept elsewhere."
        )
    if not checkpoint_file:
        report.notes.append(
            "No checkpoints from outside were given: entries dropped from the end together with their checkpoints "
            "would not be missed. Give --checkpoints with the sink's file."
        )
    try:
        found = Checkpoints(documents, keys)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"a checkpoint cannot be read: {error!r}") from error
    report.checkpoints = found.count
    if not found.count:
        report.notes.append("Nothing is signed: the chain fits together, but a log made anew as a whole would, too.")
    return found


def _keys(path: Path) -> dict[str, str]:
    try:
        return {one["key_id"]: one["public"] for one in json.loads(path.read_text(encoding="utf-8"))["keys"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{path} holds no public keys: {error!r}") from error


def _sink(path: Path) -> list[dict[str, Any]]:
    """The checkpoints of a JSONL file, or of a folder of checkpoint-*.json."""
    files = sorted(path.glob("checkpoint-*.json")) if path.is_dir() else [path]
    found = []
    for file in files:
        with file.open("rb") as lines:
            found += [one for one in _documents(lines) if one is not None]  # a line cut off by a crash is no checkpoint
    return found


def _documents(lines: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    """The JSON object of each line, None for a line that holds none."""
    for line in lines:
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        yield found if isinstance(found, dict) else None


def sentences(report: Report) -> list[str]:
    """The report for people."""
    if not report.is_intact:
        found = [f"BROKEN at entry {report.first_bad}: {report.reason}."]
        if report.entries:
            found.append(f"Before it, {report.entries} entries up to {report.last_seq} fit.")
        return found
    said = f"Intact: {report.entries} entries, {report.first_seq} to {report.last_seq}"
    if report.signed_seq:
        said += f"; {report.checkpoints} signed checkpoints, the newest over entry {report.signed_seq}"
    return [said + ".", *report.notes]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check an export of Pilothouse's audit log, offline.")
    parser.add_argument("export", type=Path)
    parser.add_argument("--checkpoints", type=Path, help="The sink's checkpoints.jsonl, or its folder of objects.")
    parser.add_argument("--keys", type=Path, help="Public keys that you trust: keys.json, kept elsewhere.")
    parser.add_argument("--partial", action="store_true", help="Accept a filtered export; check each entry alone.")
    asked = parser.parse_args(arguments)
    try:
        report = verify(asked.export, checkpoints=asked.checkpoints, keys=asked.keys, is_partial=asked.partial)
    except Unusable as error:
        sys.stderr.write(f"{error}.\n")
        return 2
    sys.stdout.write("\n".join(sentences(report)) + "\n")
    return 0 if report.is_intact else 1


if __name__ == "__main__":
    sys.exit(main())
