"""Prometheus' remote write (version 1), as far as tests need it: the only way to give a Prometheus native histograms
at chosen times. Messages of prometheus/prompb `remote.proto` and `types.proto`, written field by field; snappy as a
block of literals, which every decoder takes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""The NaN that says that a series has ended."""
_VARINT, _FIXED64, _BYTES = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Histogram:
    """A cumulative native histogram. ``buckets`` by Prometheus' index: bucket i ends at 2^(i / 2^schema)."""

    schema: int
    buckets: Mapping[int, int] = field(default_factory=dict)
    zero: int = 0
    total: float = 0.0
    zero_threshold: float = 2.938735877055719e-39
    is_stale: bool = False

    @property
    def count(self) -> int:
        return self.zero + sum(self.buckets.values())


Sample = float | Histogram


@dataclass(frozen=True, slots=True)
class Series:
    """``samples`` as (Unix seconds, number or histogram), the oldest first."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, Sample]]


def remote_write(url: str, series: Iterable[Series]) -> None:
    """Give the server at ``url`` these samples."""
    body = snappy(b"".join(_message(1, _series(one)) for one in series))
    headers = {
        "content-encoding": "snappy", "content-type": "application/x-protobuf",
        "x-prometheus-remote-write-version": "0.1.0",
    }  # fmt: skip
    answer = httpx.post(f"{url}/api/v1/write", content=body, headers=headers, timeout=30)
    assert answer.status_code in {200, 204}, f"{answer.status_code}: {answer.text}"


def snappy(data: bytes) -> bytes:
    """The block format, nothing compressed: the length, then literals of at most 2^16 bytes."""
    parts = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    return _varint(len(data)) + b"".join(b"\xf4" + struct.pack("<H", len(part) - 1) + part for part in parts)


def _series(one: Series) -> bytes:
    found = [_message(1, _text(1, name) + _text(2, value)) for name, value in sorted(one.labels.items())]
    for at, sample in one.samples:
        moment = round(at * 1000)
        if isinstance(sample, Histogram):
            found.append(_message(4, _histogram(sample, moment)))
        else:
            found.append(_message(2, _double(1, sample) + _number(2, moment)))
    return b"".join(found)


def _histogram(one: Histogram, moment: int) -> bytes:
    """Buckets as spans of neighbours with the gaps between them, and counts as differences from bucket to bucket."""
    if one.is_stale:
        return _double(3, STALE) + _number(15, moment)
    used = sorted(one.buckets)
    spans: list[tuple[int, int]] = []
    for place, index in enumerate(used):
        gap = index if not place else index - used[place - 1] - 1
        if not place or gap:
            spans.append((gap, 1))
        else:
            spans[-1] = (spans[-1][0], spans[-1][1] + 1)
    counts = [one.buckets[index] for index in used]
    deltas = [count - before for before, count in zip([0, *counts], counts, strict=False)]
    return b"".join(
        [
            _number(1, one.count), _double(3, one.total), _number(4, _zigzag(one.schema)),
            _double(5, one.zero_threshold), _number(6, one.zero),
            *(_message(11, _number(1, _zigzag(gap)) + _number(2, length)) for gap, length in spans),
            _message(12, b"".join(_varint(_zigzag(delta)) for delta in deltas)), _number(15, moment),
        ]
    )  # fmt: skip


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _zigzag(value: int) -> int:
    return 2 * value if value >= 0 else -2 * value - 1


def _number(tag: int, value: int) -> bytes:
    return _varint(tag << 3 | _VARINT) + _varint(value)


def _double(tag: int, value: float) -> bytes:
    return _varint(tag << 3 | _FIXED64) + struct.pack("<d", value)


def _message(tag: int, body: bytes) -> bytes:
    return _varint(tag << 3 | _BYTES) + _varint(len(body)) + body


def _text(tag: int, value: str) -> bytes:
    return _message(tag, value.encode())
