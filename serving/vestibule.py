"""Answers while the model is still loading: live is 200, everything else 503 with Retry-After.

A thread of plain blocking code on the listening socket; it must be closed before the workers are forked. Connections
that arrive in the moment between wait in the socket's backlog for the workers.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time

# For one connection, whatever comes: readiness waits for the connection that is being answered.
_ANSWER_SECONDS = 1.0
_LIVE = (
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\nconnection: close\r\n\r\n{"live":true}'
)
_BODY = b'{"error":"The model is still loading.","code":"starting"}'
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"x-pilothouse-loading: 1\r\n"  # the model has not seen the request: the gateway may send it again
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_BODY), _BODY)
)


class Vestibule:
    """Context manager around the loading of the model."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._stop_read, self._stop_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="vestibule", daemon=True)

    def __enter__(self) -> Vestibule:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_write.send(b"x")
        self._thread.join()
        self._stop_read.close()
        self._stop_write.close()

    def _run(self) -> None:
        while True:
            readable, _, _ = select.select([self._listening, self._stop_read], [], [])
            if self._stop_read in readable:
                return
            with contextlib.suppress(OSError):  # the caller hung up: nobody to answer
                connection, _ = self._listening.accept()
                with connection:
                    self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        head = b""
        while b"\r\n\r\n" not in head and len(head) < 8192:
            chunk = _read(connection, 4096, deadline)
            if not chunk:
                return
            head += chunk
        is_live = head.split(b" ", 2)[1:2] == [b"/v2/health/live"]
        connection.sendall(_LIVE if is_live else _BUSY)
        # Unread input would turn the close into a reset that swallows the answer.
        connection.shutdown(socket.SHUT_WR)
        while _read(connection, 65536, deadline):
            pass


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    """What arrived, b"" at the end. Raises TimeoutError: who sends byte by byte must not hold up the start."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
    return connection.recv(size)
