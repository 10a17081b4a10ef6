"""Ports for serving processes: the lowest of the range that nobody uses."""

from __future__ import annotations

import socket
from collections.abc import Collection


def is_port_free(port: int, host: str = "127.0.0.1") -> bool:
    """True when a server could listen there now. SO_REUSEADDR, so that old connections in TIME_WAIT do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def choose_port(allowed: range, taken: Collection[int]) -> int | None:
    """The lowest free port of the range that is not `taken`, or None when the range is used up."""
    return next((port for port in allowed if port not in taken and is_port_free(port)), None)
