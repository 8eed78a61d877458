"""A crowd: callers with a connection each, who ask at the same moment."""

import json
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from msgspec import Struct

__all__ = ["Crowd", "Reply"]


class Reply(Struct):
    """`seconds`: from the question to the answer."""

    status: int
    body: Any
    seconds: float


class Crowd:
    """`ask` sends one body from each caller before it reads any answer."""

    def __init__(self, port: int, size: int) -> None:
        self._lines = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(size)]

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        for line in self._lines:
            line.close()

    def ask(self, bodies: Sequence[Any]) -> list[Reply]:
        started = time.monotonic()
        for line, body in zip(self._lines, bodies, strict=False):
            data = json.dumps(body).encode()
            head = f"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(data)}\r\n\r\n"
            line.sendall(head.encode() + data)
        return [_reply(line, started) for line, _ in zip(self._lines, bodies, strict=False)]


def _reply(line: socket.socket, started: float) -> Reply:
    data = b""
    while b"\r\n\r\n" not in data:
        data += line.recv(65536) or _closed()
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += line.recv(65536) or _closed()
    return Reply(int(head[9:12]), json.loads(body), time.monotonic() - started)


def _closed() -> bytes:
    raise ConnectionError("closed before the answer")
