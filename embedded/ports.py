"""Which ports are free, and who holds those that are not."""

from __future__ import annotations

import socket
from contextlib import suppress

import psutil

from embedded.errors import PortTakenError


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Without this a port in TIME_WAIT after our own restart would look taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holder(port: int) -> str:
    """`uvicorn (pid 812)` where the system tells us, else an empty string."""
    with suppress(psutil.AccessDenied, psutil.NoSuchProcess):
        for connection in psutil.net_connections(kind="inet"):
            listens_on = getattr(connection.laddr, "port", None) if connection.status == psutil.CONN_LISTEN else None
            if listens_on == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return ""


def require_free(port: int, *, what: str, variable: str) -> None:
    """Raises PortTakenError with a sentence that names port, holder and the variable to change."""
    if is_free(port):
        return
    who = holder(port)
    raise PortTakenError(
        f"Port {port} for the {what} is taken{f' by {who}' if who else ''}; "
        f"stop it or choose another port, for example {variable}={port + 1000} make up."
    )
