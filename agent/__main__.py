"""`python -m agent`: one home, one agent, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Generator

import structlog
import uvicorn

from agent.api.app import AgentApi
from agent.core import Agent
from agent.errors import AgentError
from agent.files import lock_home
from agent.logs import configure_logging
from agent.settings import Settings, load_settings

log = structlog.get_logger("agent")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers: the agent decides in which order things end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise AgentError(f"Port {port} of the agent's API cannot be used: {error.strerror}; choose --port.") from error
    listener.listen(128)
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> None:
    agent = Agent(settings)
    agent.start()
    config = uvicorn.Config(
        AgentApi(agent), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    log.info("agent_started", home=str(settings.home), port=settings.port, gateway_port=settings.gateway_port)
    await stop.wait()
    log.info("agent_stopping", children="stop" if settings.is_stopping_children else "leave")
    server.should_exit = True
    await agent.stop()
    await serving
    log.info("agent_stopped")


def main() -> int:
    settings = load_settings()
    configure_logging()
    try:
        lock = lock_home(settings.home)
        listener = _listen(settings.port)
        with lock:
            asyncio.run(_serve(settings, listener))
    except AgentError as error:
        log.warning("agent_not_started", code=error.code, detail=error.detail)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
