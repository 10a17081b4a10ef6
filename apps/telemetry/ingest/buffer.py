"""The bounded buffer between the door and the database, and the thread that empties it.

1. The door adds cells (sums, not observations: ten times the traffic of the same slots takes no more room). A cell that
   finds no room is dropped, and its items are counted as dropped; the door never waits.
2. Once a second the thread freezes what is there into batches with a sequence number each and writes them in one
   transaction. A batch that failed is repeated, unchanged, until it commits: the writer knows a repeat by its number.
3. It also reads which names are known, stores what the sources did, and hands samples of CloudEvents on.

How full it is only falls when the thread takes something out: looked at just before, no peak is missed, and the door
pays nothing for it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping

import structlog
from django.db import close_old_connections
from django.db.utils import Error as DatabaseFault

from apps.telemetry.domain.batch import SlotBatch
from apps.telemetry.domain.cells import Cell, CellKey
from apps.telemetry.domain.fill import Level, Peak, fullest
from apps.telemetry.domain.known import Known
from apps.telemetry.domain.tally import Ledger
from apps.telemetry.ingest.writer import Notify, first_line
from apps.telemetry.services.intake import known_read, samples_keep, source_tallies_add
from apps.telemetry.services.slots import slots_add

MAX_BYTES = 64 * 1024 * 1024
MAX_CELLS = 20_000
BATCH_SLOTS = 2_000
FLUSH_SECONDS = 1.0
KNOWN_SECONDS = 5.0
TALLY_SECONDS = 5.0
MAX_BACKOFF_SECONDS = 15.0
STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)

Samples = Callable[[], list[dict[str, object]]]


class CellBuffer:
    """``add`` from the event loop, ``run`` in one thread. ``known`` is what the door checks names against."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        notify: Notify | None = None,
        samples: Samples | None = None,
        max_bytes: int = MAX_BYTES,
        max_cells: int = MAX_CELLS,
    ) -> None:
        self.known = Known()
        self._ledger, self._notify, self._samples = ledger, notify, samples
        self._max_bytes, self._max_cells = max_bytes, max_cells
        self._lock = threading.Lock()
        self._cells: dict[CellKey, Cell] = {}
        self._bytes = 0
        self._frozen: list[SlotBatch] = []
        self._frozen_bytes = 0
        self._unsaved: list[dict[str, object]] = []
        self._name = f"ingest/{secrets.token_hex(6)}"
        self._seqs: dict[tuple[str, str], int] = {}
        self._failures = 0
        self._peak = Peak()
        self._passed_at = time.monotonic()
        self._known_at = self._tally_at = 0.0
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(cells waiting, bytes of all that is not written yet)."""
        return len(self._cells), self._bytes + self._frozen_bytes

    @property
    def levels(self) -> tuple[Level, Level]:
        """Each bound, and how much of it is taken."""
        cells, size = self.size
        return Level("slots", cells, self._max_cells), Level("bytes of slots", size, self._max_bytes)

    @property
    def peak(self) -> Level:
        """The bound that was nearest its limit lately, as it was then."""
        with self._lock:
            return self._peak.highest(fullest(self.levels), time.monotonic())

    @property
    def stalled_seconds(self) -> float:
        """Since the last pass that got through everything; 0.0 when nothing waits."""
        return max(0.0, time.monotonic() - self._passed_at) if any(self.size) else 0.0

    def start(self) -> None:
        """Start the thread if it does not run; called with every request, costs a comparison."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._wake.set()  # the names are read at once
                self._thread = threading.Thread(target=self._run, name="ingest-buffer", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write what is there, for at most STOP_SECONDS; what remains is logged as lost."""
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        lost = sum(cell.items for cell in self._cells.values())
        if lost or self._frozen:
            log.error("ingest.lost_at_exit", items=lost, batches=len(self._frozen))

    def add(self, cells: Mapping[CellKey, Cell]) -> dict[tuple[str, str], int]:
        """Add all that find room; returns how many items of which endpoint and variant did not."""
        dropped: dict[tuple[str, str], int] = {}
        with self._lock:
            for key, cell in cells.items():
                known = self._cells.get(key)
                if known is not None:
                    before = known.size
                    known.add(cell)
                    self._bytes += known.size - before
                elif (
                    len(self._cells) < self._max_cells
                    and self._bytes + self._frozen_bytes + cell.size <= self._max_bytes
                ):
                    self._cells[key] = cell
                    self._bytes += cell.size
                else:
                    whose = key.endpoint, key.variant
                    dropped[whose] = dropped.get(whose, 0) + cell.items
        return dropped

    def _run(self) -> None:
        while True:
            self._wake.wait(min(MAX_BACKOFF_SECONDS, FLUSH_SECONDS * 2.0**self._failures))
            self._wake.clear()
            try:
                self.pass_once()
                self._failures = 0
            except DatabaseFault as error:
                self._failures += 1
                if self._failures == 1 or self._stopping.is_set():
                    log.warning("ingest.flush_failed", batches=len(self._frozen), error=first_line(error))
            finally:
                close_old_connections()
            if self._stopping.is_set():
                return

    def pass_once(self) -> int:
        """One pass; returns how many batches were written. DatabaseFault leaves everything to be repeated."""
        close_old_connections()
        moment = time.monotonic()
        if not self._known_at or moment - self._known_at >= KNOWN_SECONDS:
            self.known = known_read()
            self._known_at = moment
        if not self._frozen:
            self._freeze()
        written = len(self._frozen)
        while self._frozen:
            self._write_some()
        self._save_samples()
        if moment - self._tally_at >= TALLY_SECONDS or self._stopping.is_set():
            self._save_tallies()
            self._tally_at = moment
        self._passed_at = time.monotonic()
        return written

    def _write_some(self) -> None:
        """One transaction of a bounded size; what is written is forgotten at once."""
        group: list[SlotBatch] = []
        slots = 0
        for batch in self._frozen:
            if group and slots + len(batch.slots) > BATCH_SLOTS:
                break
            group.append(batch)
            slots += len(batch.slots)
        refused = sum(len(result.refused) for result in slots_add(group))
        if refused:
            self._ledger.unstored(refused)
        with self._lock:
            self._see()
            left = len(self._frozen)
            self._frozen_bytes -= self._frozen_bytes * len(group) // left
            self._frozen = self._frozen[len(group) :]
        if self._notify:
            self._notify({batch.endpoint for batch in group})

    def _see(self) -> None:
        """Under the lock, before something is taken out."""
        self._peak.see(fullest(self.levels), time.monotonic())

    def _save_samples(self) -> None:
        self._unsaved = self._unsaved or (self._samples() if self._samples else [])
        if self._unsaved:
            samples_keep(self._unsaved)
            self._unsaved = []

    def _save_tallies(self) -> None:
        taken = self._ledger.take()
        try:
            source_tallies_add(taken)
        except DatabaseFault:
            self._ledger.put_back(taken)
            raise

    def _freeze(self) -> None:
        """Move everything into batches of one endpoint and variant; the number is theirs from now on."""
        with self._lock:
            self._see()
            cells, self._cells = self._cells, {}
            self._frozen_bytes, self._bytes = self._bytes, 0
        grouped: dict[tuple[str, str], list[CellKey]] = {}
        for key in cells:
            grouped.setdefault((key.endpoint, key.variant), []).append(key)
        batches: list[SlotBatch] = []
        for (endpoint, variant), keys in grouped.items():
            source = f"{self._name}/{_short(endpoint, variant)}"
            for start in range(0, len(keys), BATCH_SLOTS):
                seq = self._seqs[endpoint, variant] = self._seqs.get((endpoint, variant), 0) + 1
                slots = tuple(cells[key].delta(key) for key in keys[start : start + BATCH_SLOTS])
                batches.append(SlotBatch(source=source, seq=seq, endpoint=endpoint, variant=variant, slots=slots))
        self._frozen = batches


def _short(endpoint: str, variant: str) -> str:
    return hashlib.sha256(f"{endpoint}\x00{variant}".encode()).hexdigest()[:16]
