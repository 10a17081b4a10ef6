"""Requests that no serving process answered, told to the control plane: only the gateway has seen them.

Serving processes report what they answered, so an outage of all of them would be in no count.

1. Envoy writes one line per request of a caller that it had to answer itself (envoy/access_log.py).
2. What was appended is added up per endpoint, variant, period and slot of 10 s, as serving processes do it.
3. One file holds the place in the log, the open rows and the batch under way: after a crash nothing is lost and
   nothing counted twice. It is on disk before anything is sent.
4. A batch is repeated unchanged until it is answered 2xx; meanwhile the rows add up. What can never be accepted
   is dropped, and so are the oldest rows beyond `MAX_ROWS`; both are logged with their numbers.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import structlog

from agent.errors import StorageFailed
from agent.files import FileUnreadable, read_json, write_json
from agent.settings import Settings
from agent.supervise.launch import instance_prefix
from agent.supervise.logfiles import MAX_BYTES
from agent.unserved_counts import MAX_ROWS, Ledger, parse_line

log = structlog.get_logger("agent.unserved")

PASS_SECONDS = 1.0
FINAL_SECONDS = 2.0
_BATCHES_PER_PASS = 20
_CHUNK_BYTES = 1024 * 1024
_CHUNKS_PER_PASS = 8
# The first line carries the time of a request: enough to know a log that was begun anew under the same name.
_HEAD_BYTES = 64
_TIMEOUT = httpx.Timeout(5.0, connect=1.0)
_GZIP_FROM_BYTES = 4096
_RETRYABLE_4XX = frozenset({401, 403, 404, 408, 425, 429})


class UnservedReporter:
    """Reads the gateway's log and reports; one task calls `once`, and `close` at the end."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self.log_path = settings.unserved_log
        self._state = settings.home / "state" / "unserved.json"
        self._settings = settings
        self._client = client
        self._prefix = instance_prefix(settings.home)
        self._ledger: Ledger | None = None
        # A pass that is cancelled leaves its thread to its work; the next one waits for it.
        self._lock = threading.Lock()
        self._is_saved = True
        self._was_delivered = True

    async def once(self) -> bool:
        """One pass: read what was appended, write it down, send. True when something is left to be done at once.

        Raises StorageFailed: nothing is sent then, or a crash after it could count it twice.
        """
        ledger, is_all = await asyncio.to_thread(self._read)
        if is_all and ledger.offset > MAX_BYTES:
            await asyncio.to_thread(self._cut, ledger)
        if not self._settings.telemetry_url:
            ledger.rows.clear()  # nobody is to be told
            ledger.pending = None
        for _ in range(_BATCHES_PER_PASS):
            if ledger.pending is None and ledger.freeze(self._prefix):
                self._is_saved = False
            if not self._is_saved:
                await asyncio.to_thread(self._save, ledger)
            if ledger.pending is None:
                break
            if not await self._post(ledger.pending):
                return False
            ledger.pending, self._is_saved = None, False
        if not self._is_saved:
            await asyncio.to_thread(self._save, ledger)
        return not is_all or bool(ledger.rows)

    async def close(self) -> None:
        """The rest, for at most `FINAL_SECONDS`; what does not get through is on disk for the next agent."""
        try:
            async with asyncio.timeout(FINAL_SECONDS):
                while await self.once():
                    pass
        except TimeoutError:
            log.info("unserved_kept_for_later")

    # ---- what is kept

    def _load(self) -> Ledger:
        try:
            found = read_json(self._state)
            return Ledger() if found is None else Ledger.from_disk(found)
        except FileUnreadable as error:
            raise StorageFailed(f"{self._state.name} could not be read: {error}.") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            # Counting the log from its start could count a morning's outage twice: begin at its end instead.
            log.warning("unserved_state_unreadable", path=str(self._state), error=str(error))
            stat, head = self._log_now()
            return Ledger(stat.st_ino, head, stat.st_size) if stat else Ledger()

    def _save(self, ledger: Ledger) -> None:
        with self._lock:
            self._write(ledger)

    def _write(self, ledger: Ledger) -> None:
        write_json(self._state, ledger.to_disk())
        self._is_saved = True

    # ---- the log

    def _log_now(self) -> tuple[os.stat_result | None, str]:
        try:
            with self.log_path.open("rb") as stream:
                return os.fstat(stream.fileno()), stream.read(_HEAD_BYTES).hex()
        except OSError:
            return None, ""

    def _read(self) -> tuple[Ledger, bool]:
        """Add what was appended since the last look; False when more is left for the next pass."""
        with self._lock:
            ledger = self._ledger = self._ledger or self._load()
            return ledger, self._read_on(ledger)

    def _read_on(self, ledger: Ledger) -> bool:
        stat, head = self._log_now()
        if stat is None:
            return True
        is_same = stat.st_ino == ledger.inode and stat.st_size >= ledger.offset and head.startswith(ledger.head)
        if not is_same:
            ledger.inode, ledger.offset, ledger.head = stat.st_ino, 0, ""
        if len(ledger.head) < len(head):
            ledger.head = head
        return any(not self._read_chunk(ledger) for _ in range(_CHUNKS_PER_PASS))

    def _read_chunk(self, ledger: Ledger) -> bool:
        """Whole lines only: the rest of a line that is being written comes with the next look. False at the end."""
        with self.log_path.open("rb") as stream:
            stream.seek(ledger.offset)
            content = stream.read(_CHUNK_BYTES)
        whole = content.rfind(b"\n") + 1
        if not whole and len(content) == _CHUNK_BYTES:
            whole = len(content)  # no line of ours is that long
        if not whole:
            return False
        dropped = sum(ledger.add(seen) for line in content[:whole].splitlines() if (seen := parse_line(line)))
        ledger.offset += whole
        self._is_saved = False
        if dropped:
            log.error("unserved_dropped", requests=dropped, reason=f"more than {MAX_ROWS} rows wait")
        return True

    def _cut(self, ledger: Ledger) -> None:
        """Keep one older file and start over when the log is too large. What is written during the copy is read first.

        The new place is known by the changed first line, so a crash in between costs nothing.
        """
        with self._lock:
            try:
                shutil.copyfile(self.log_path, self.log_path.with_name(self.log_path.name + ".1"))
                while self._read_chunk(ledger):
                    pass
                self._write(ledger)
                if self.log_path.stat().st_size == ledger.offset:
                    os.truncate(self.log_path, 0)
            except OSError as error:
                # A full disk must not stop the counting; the next pass tries again.
                log.warning("unserved_log_not_cut", error=str(error))

    # ---- the control plane

    async def _post(self, batch: Mapping[str, Any]) -> bool:
        """True when the batch is done with: accepted, or refused for good. False when it must be repeated."""
        try:
            answer = await self._send(batch)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            self._not_delivered(f"{type(error).__name__}: {error}")
            return False
        if answer.is_success:
            self._was_delivered = True
            self._say_rejected(answer)
            return True
        if answer.is_client_error and answer.status_code not in _RETRYABLE_4XX:
            requests = sum(slot["total"] for slot in batch["slots"])
            log.error("unserved_refused", status=answer.status_code, dropped=requests, said=answer.text[:300])
            return True
        self._not_delivered(f"HTTP {answer.status_code}")
        return False

    def _say_rejected(self, answer: httpx.Response) -> None:
        try:
            rejected = answer.json().get("rejected") or []
        except (ValueError, AttributeError):
            return
        if rejected:  # older than the control plane takes, or a control plane from before these slots
            log.error("unserved_slots_rejected", slots=len(rejected), first=rejected[0])

    async def _send(self, batch: Mapping[str, Any]) -> httpx.Response:
        # Read each time: a rotated token takes effect with the next batch.
        path = self._settings.ingest_token_file
        token = Path(path).read_text(encoding="utf-8").strip() if path else ""
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        body = json.dumps(batch).encode()
        if len(body) >= _GZIP_FROM_BYTES:
            body = gzip.compress(body, compresslevel=1)
            headers["content-encoding"] = "gzip"
        url = f"{self._settings.telemetry_url}/ingest/v1/slots"
        return await self._client.post(url, content=body, headers=headers, timeout=_TIMEOUT)

    def _not_delivered(self, reason: str) -> None:
        if self._was_delivered:  # once per outage of the control plane
            log.warning("unserved_not_delivered", reason=reason)
        self._was_delivered = False
