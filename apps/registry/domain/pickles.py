"""What a pickle would import, found without loading it. Never says "safe": it says what was seen, or "cannot tell".

1. A text that was computed, an extension code, a malformed or cut stream, or too many instructions make the answer
incomplete. 2. Large payloads are skipped, so memory does not grow with arrays. 3. Joblib writes arrays as raw bytes
between the instructions; a file that shows such an array is read a second time with them left out, and both readings
count, because nobody knows which loader will be used. 4. Pickles inside bytes, and pickles that follow the first, are
scanned too. The reading itself is in ``pickle_walk``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from apps.registry.domain.pickle_read import Malformed, Seen
from apps.registry.domain.pickle_walk import MAX_DEPTH, Walker
from apps.registry.domain.pickle_words import carries_code, is_dangerous

MAX_INSTRUCTIONS = 3_000_000
MAX_IN_A_ROW = 32


@dataclass(frozen=True, slots=True)
class PickleScan:
    """``imports`` are ``module.name``, sorted. ``runs`` counts the instructions that call something or set its state.

    ``is_complete`` is false when a part could not be read; ``notes`` say why, as sentences.
    """

    protocol: int
    imports: tuple[str, ...]
    runs: int
    is_complete: bool
    notes: tuple[str, ...]

    @property
    def dangerous(self) -> tuple[str, ...]:
        """The imports that no model needs."""
        return tuple(name for name in self.imports if is_dangerous(name))

    @property
    def is_cloudpickle(self) -> bool:
        """Compiled code of functions or classes travels inside."""
        return any(name.startswith("cloudpickle.") or carries_code(name) for name in self.imports)

    def as_dict(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol,
            "imports": list(self.imports),
            "dangerous": list(self.dangerous),
            "is_complete": self.is_complete,
            "notes": list(self.notes),
        }


def scan_pickle(opened: Callable[[], BinaryIO], *, max_instructions: int = MAX_INSTRUCTIONS) -> PickleScan:
    """Scan the pickle that ``opened()`` gives from its first byte; called twice for joblib files.

    Raises OSError (and what a decompressing stream raises), never for what the bytes say.
    """
    seen = Seen(max_instructions)
    with opened() as stream:
        _in_a_row(stream, seen, raw=False)
    if seen.has_raw_arrays:
        # The plain reading stumbles over raw bytes of necessity; what counts is whether the joblib one gets through.
        seen.is_complete, seen.notes, seen.runs = True, {}, 0
        with opened() as stream:
            _in_a_row(stream, seen, raw=True)
        for name in list(seen.imports):
            seen.add(name)
    return PickleScan(seen.protocol, tuple(sorted(seen.imports)), seen.runs, seen.is_complete, tuple(seen.notes))


def would_run(head: bytes) -> bool:
    """Whether a pickle loader pointed at these first bytes would import a name and call it, whatever the file claims.

    For every file of an artifact: its name and its other meaning do not matter to ``pickle.load``.
    """
    seen = Seen(2_000)
    walker = Walker(io.BytesIO(head), seen, raw=False, depth=MAX_DEPTH)
    with suppress(Malformed):
        walker.walk()
    return seen.runs > 0 and bool(seen.imports)


def _in_a_row(stream: BinaryIO, seen: Seen, *, raw: bool, depth: int = 0) -> None:
    """The pickle at the start and those that follow it (torch's old format has five), until something else comes."""
    for position in range(MAX_IN_A_ROW):
        walker = Walker(stream, seen, raw=raw, depth=depth)
        try:
            if not walker.walk():
                return
        except Malformed as error:
            if position == 0:
                seen.cannot_tell(f"It cannot be read to its end: {error}.")
            elif walker.runs:
                seen.cannot_tell(f"A further pickle in it cannot be read to its end: {error}.")
            return
        if seen.budget <= 0:
            return
    seen.cannot_tell(f"More than {MAX_IN_A_ROW} pickles follow each other.")
