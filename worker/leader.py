"""One leader among the observers: a session lock in PostgreSQL, taken away from a leader that stopped moving.

A session-level advisory lock goes when its session goes, so a killed leader is followed at once. A *frozen* one
(SIGSTOP, a hung machine) keeps its session open and would hold the lock for ever. So the leader touches its session
every second, and whoever waits ends the session of a leader that has been silent for SILENCE_SECONDS, judged by the
database's clock. The frozen one finds its connection closed when it wakes and stands down.
"""

from __future__ import annotations

from typing import Any

import psycopg
import structlog
from django.db import connection as django_connection

log = structlog.get_logger(__name__)

LOCK = (0x50494C4F, 1)  # pg_locks shows the pair as classid, objid
SILENCE_SECONDS = 15.0

_END_SILENT = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity JOIN pg_locks USING (pid)
     WHERE locktype = 'advisory' AND granted AND classid = %s AND objid = %s
       AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND clock_timestamp() - state_change > make_interval(secs => %s)
"""


class Leadership:
    """A connection of its own that holds the lock and listens. Any method may raise psycopg.Error: stand down then."""

    def __init__(self, *, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._silence_seconds = silence_seconds
        self._connection = _connect()

    def take(self) -> bool:
        """Try to become the leader; False while another one lives."""
        row = self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK).fetchone()
        if row is not None and row[0]:
            return True
        for pid, _ in self._connection.execute(_END_SILENT, (*LOCK, self._silence_seconds)).fetchall():
            log.warning("silent_leader_ended", backend_pid=pid, silent_seconds=self._silence_seconds)
        return False

    def listen(self, channel: str) -> None:
        self._connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))

    def wait(self, seconds: float) -> bool:
        """Wait for a notification, at most ``seconds``; True when one came. Touches the session: we are alive."""
        self._connection.execute("SELECT 1")
        came = any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        for _ in self._connection.notifies(timeout=0):  # what came meanwhile: one look at the outbox serves them all
            pass
        return came

    def close(self) -> None:
        """Gives the lock back with the session."""
        self._connection.close()


def _connect() -> psycopg.Connection[Any]:
    params = django_connection.get_connection_params()
    known = {key: params[key] for key in ("dbname", "user", "password", "host", "port", "options") if params.get(key)}
    return psycopg.connect(
        **known,
        autocommit=True,
        connect_timeout=5,
        application_name="pilothouse-observer",
        keepalives=1,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        tcp_user_timeout=10_000,
    )
