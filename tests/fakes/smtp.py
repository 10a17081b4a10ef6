"""A small SMTP server (RFC 5321) that keeps what it is given: real sockets, real answers, no delivery."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Mailbox:
    """``refuses`` answers 550 to every recipient."""

    port: int = 0
    refuses: bool = False
    came: list[tuple[str, list[str], EmailMessage]] = field(default_factory=list)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sender = ""
        recipients: list[str] = []
        writer.write(b"220 fake.example.com ESMTP\r\n")
        while line := await reader.readline():
            word, text = line[:4].upper().strip(), line.decode("utf-8").strip()
            if word in {b"EHLO", b"HELO"}:
                writer.write(b"250 fake.example.com\r\n")
            elif word == b"MAIL":
                sender, recipients = _inside(text), []
                writer.write(b"250 ok\r\n")
            elif word == b"RCPT" and self.refuses:
                writer.write(b"550 no such user\r\n")
            elif word == b"RCPT":
                recipients.append(_inside(text))
                writer.write(b"250 ok\r\n")
            elif word == b"DATA":
                writer.write(b"354 go on\r\n")
                body = await _until_dot(reader)
                self.came.append((sender, recipients, message_from_bytes(body, policy=policy.default)))
                writer.write(b"250 kept\r\n")
            elif word == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
            await writer.drain()
        writer.close()


@contextmanager
def smtp_server() -> Iterator[Mailbox]:
    """Listens at 127.0.0.1 on a free port while the block runs."""
    box, ready, ends = Mailbox(), threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(box.talk, "127.0.0.1", 0)
        box.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await ends.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    if not ready.wait(30):
        raise RuntimeError("the SMTP server did not start")
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(ends.set)
        thread.join(30)
        loop.close()


def _inside(text: str) -> str:
    return text.partition("<")[2].partition(">")[0]


async def _until_dot(reader: asyncio.StreamReader) -> bytes:
    lines: list[bytes] = []
    while (line := await reader.readline()) not in {b".\r\n", b""}:
        lines.append(line.removeprefix(b"."))
    return b"".join(lines)
