"""The chained audit log beside plain inserts of the same rows: eight writer processes, one commit per entry.

The chain serialises its writers (each entry holds the hash of the one before), plain inserts share group commits:
the ratio is the price of the chain. Rounds in turn on one durable PostgreSQL; at the end the whole chain is verified.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import harness
from database import own_database, use_django
from harness import percentile, ratio, save, table

WRITERS = 8
ROUNDS = 3
SECONDS = 6.0
KINDS = ("chained", "plain")
DETAIL = {
    "action": "Shift", "from": "baking", "to": "shifting", "reason": "baked 900 s at 5 % without a guardrail failing",
    "step": 2, "weight_bp": 2500, "revision": 5,
}  # fmt: skip


def write(kind: str, seconds: float) -> list[float]:
    """In a process of its own: seconds of each commit. Says when it is ready and begins when it is told to."""
    from django.db import connection, transaction

    from apps.audit.services.record import event_record
    from apps.kernel.actor import SYSTEM

    same = {"verb": "rollout.transitioned", "subject_kind": "rollout", "subject_label": "late-arrival to 1.1.0"}
    connection.ensure_connection()
    found: list[float] = []
    print("ready", flush=True)
    sys.stdin.readline()
    ends = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < ends:
        subject = f"ro_{len(found):09d}"
        with transaction.atomic():
            if kind == "chained":
                event_record(actor=SYSTEM, subject_id=subject, detail=DETAIL, **same)
            else:
                _plain(subject, same)
        found.append(time.perf_counter() - begun)
    connection.close()
    return found


def _plain(subject: str, same: dict[str, str]) -> None:
    """The same row through the same connection, without lock, predecessor and hash chain."""
    import secrets

    from django.db import connection

    from apps.kernel.actor import SYSTEM
    from apps.kernel.clock import now

    values: list[Any] = [now(), SYSTEM.kind, SYSTEM.id, SYSTEM.label, same["verb"], same["subject_kind"], subject]
    values += [same["subject_label"], json.dumps(DETAIL), "", "sha256:" + "0" * 64, "sha256:" + secrets.token_hex(32)]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO plain_event (at, actor_kind, actor_id, actor_label, verb, subject_kind, subject_id,"
            " subject_label, detail, request_id, prev_hash, hash)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s)",
            values,
        )


def one_round(kind: str, writers: int = WRITERS, seconds: float = SECONDS) -> dict[str, float]:
    """All writers at once, from when the last of them is ready."""
    argv = [sys.executable, str(Path(__file__)), "--writer", kind, str(seconds)]
    processes = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=harness.ROOT)
        for _ in range(writers)
    ]
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a writer did not start")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a writer failed")
    each = [json.loads(output) for output in outputs]
    times = [value for found in each for value in found]
    return {
        "writers": writers, "entries": len(times), "per_second": len(times) / seconds,
        "p50_ms": percentile(times, 0.5) * 1000, "p99_ms": percentile(times, 0.99) * 1000,
        "least_of_a_writer": min(len(found) for found in each), "most_of_a_writer": max(len(found) for found in each),
    }  # fmt: skip


def verify() -> dict[str, Any]:
    """Read the whole chain back."""
    from apps.audit.models import Event
    from apps.audit.selectors import chain_first_bad

    begun = time.perf_counter()
    first_bad = chain_first_bad()
    seconds = time.perf_counter() - begun
    count = Event.objects.count()
    return {"entries": count, "first_bad": first_bad, "seconds": seconds, "per_second": count / seconds}


def main() -> int:
    started = time.time()
    with own_database():
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute(_peer_table())
        connection.close()
        rounds: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
        for _ in range(ROUNDS):
            for kind in KINDS:
                rounds[kind].append(one_round(kind))
        alone = {kind: one_round(kind, writers=1) for kind in KINDS}
        chain = verify()
    figures = ("per_second", "p50_ms", "p99_ms")
    ratios = {
        key: ratio([one[key] for one in rounds["chained"]], [one[key] for one in rounds["plain"]]) for key in figures
    }
    rows: list[list[object]] = [[1, kind, *(alone[kind][key] for key in figures)] for kind in KINDS]
    rows += [[WRITERS, kind, *(median(one[key] for one in rounds[kind]) for key in figures)] for kind in KINDS]
    rows.append([WRITERS, "ratio", *(ratios[key]["median"] for key in figures)])
    table("audit log: one commit per entry", ("writers", "log", "entries/s", "p50 ms", "p99 ms"), rows)
    table(
        "the chain read back", ("entries", "first bad", "s"), [[chain["entries"], chain["first_bad"], chain["seconds"]]]
    )
    save(
        "audit", {"rounds": rounds, "one_writer": alone, "chained_to_plain": ratios, "verified": chain}, started=started
    )
    return 1 if chain["first_bad"] is not None else 0


def _peer_table() -> str:
    """The same columns and indexes; a sequence instead of the chain's own numbers."""
    return (
        "CREATE TABLE plain_event (LIKE audit_event INCLUDING DEFAULTS INCLUDING INDEXES);"
        "CREATE SEQUENCE plain_event_seq; ALTER TABLE plain_event ALTER seq SET DEFAULT nextval('plain_event_seq')"
    )


if __name__ == "__main__":
    if "--writer" in sys.argv:
        use_django()
        _, _, the_kind, the_seconds = sys.argv
        json.dump(write(the_kind, float(the_seconds)), sys.stdout)
    else:
        sys.exit(main())
