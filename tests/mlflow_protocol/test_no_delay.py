"""A small answer leaves at once: a listening socket made by uvicorn has protocol 0, which asyncio's own loop does not
take for TCP, so it would keep Nagle's algorithm on and every keep-alive answer would wait 40 ms for an ACK."""

from __future__ import annotations

import asyncio
import socket

import uvloop
from uvicorn import Config

OURS = "controlplane.asgi:application"


def test_the_event_loop_that_we_serve_on_switches_nagle_off() -> None:
    config = Config(OURS, host="127.0.0.1", port=0, workers=2)
    listening = config.bind_socket()

    async def accepted() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Look(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                peer = transport.get_extra_info("socket")
                seen.set_result(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        server = await asyncio.get_running_loop().create_server(Look, sock=listening)
        _, writer = await asyncio.open_connection(*listening.getsockname())
        found = await asyncio.wait_for(seen, 30)
        writer.close()
        await writer.wait_closed()
        server.close()
        return found

    assert uvloop.run(accepted()) != 0
    assert (config.get_loop_factory() or asyncio.new_event_loop).__module__.startswith("uvloop")
