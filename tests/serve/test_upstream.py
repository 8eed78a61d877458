"""The way to a provider: kept connections, broken answers, and bodies of any shape."""

import asyncio
import socket
import struct
from contextlib import suppress

import pytest

from fairlead.core.chat import Heard
from fairlead.errors import FairleadError
from fairlead.serve.provider import pieces
from fairlead.serve.upstream import Upstream

OK = b"HTTP/1.1 200 OK\r\n"
PIECE = b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n'


def asked(answers: list[bytes], times: int = 1, *, hold: bool = False, reset: bool = False) -> tuple[list[str], int]:
    """What `times` questions meet at a server that says `answers` on each connection and then closes
    it, keeps it open (`hold`) or resets it in the middle of the body (`reset`); and how many connections it took."""
    connections, begun = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            for answer in answers:
                await reader.readuntil(b"\r\n\r\n{}")
                writer.write(answer)
            if hold:
                await reader.read()
        if reset:
            line = writer.get_extra_info("socket")
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await begun.wait()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def run() -> list[str]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", allow_private=True)
        found = []
        for _ in range(times):
            try:
                async with asyncio.timeout(5), upstream.post("/chat/completions", b"{}", "key") as answer:
                    begun.set()
                    if answer.headers.get(b"content-type") == b"text/event-stream":
                        heard = Heard()
                        async for _ in pieces(answer, heard):
                            pass
                        found.append(heard.text)
                    else:
                        found.append((await answer.whole(100)).decode())
            except FairleadError as error:
                found.append(str(error))
        upstream.close()
        server.close()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
        return found

    return asyncio.run(run()), connections


def chunked(data: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n%b" % (len(data), data, end)


@pytest.mark.parametrize(("answer", "said"), [
    (OK + b"content-length: 2\r\n\r\nhi", "hi"),
    (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"content-length: 2\r\n\r\nhi", "hi"),
    (OK + b"\r\nuntil the end", "until the end"),
    (OK + b"content-length: 200\r\n\r\nhi", "it ended the connection in the middle of its answer"),
    (OK + b"content-length: 101\r\n\r\n" + b"x" * 101, "its answer is over 100 bytes"),
    (b"", "it ended the connection in the middle of its answer"),
    (b"220 mail.example.com ESMTP\r\n", "its answer is no HTTP"),
    (OK + b"x: " + b"y" * 70_000 + b"\r\n\r\n", "the head of its answer is too long"),
    (chunked(PIECE + b"data: [DONE]\n\n"), "hi"),
    (chunked(PIECE), "the stream ended before the answer did"),
    (chunked(PIECE, b""), "it ended the connection in the middle of its answer"),
    (chunked(PIECE + b'data: {"error": {"message": "overloaded"}}\n\n'), "the provider breaks off: overloaded"),
    (chunked(PIECE.replace(b"{", b'{"error": null, ', 1) + b"data: [DONE]\n\n"), "hi"),
])  # fmt: skip
def test_what_an_answer_is_taken_for(answer: bytes, said: str) -> None:
    (found,), _ = asked([answer])
    assert found.startswith(said)


def test_a_connection_is_kept_and_one_that_went_stale_is_replaced() -> None:
    whole = OK + b"content-length: 2\r\n\r\nhi"
    assert asked([whole] * 3, 3) == (["hi"] * 3, 1)
    assert asked([whole], 3) == (["hi"] * 3, 3)
    assert asked([chunked(PIECE + b"data: [DONE]\n\n")] * 2, 2) == (["hi"] * 2, 1)


@pytest.mark.parametrize("answer", [OK + b"content-length: 200\r\n\r\nhi", chunked(PIECE, b"")])
def test_a_connection_that_is_reset_is_a_broken_answer(answer: bytes) -> None:
    """In the middle of the body too: then somebody else can still answer."""
    (found,), _ = asked([answer], reset=True)
    assert found == "the connection broke: Connection reset by peer"


def test_what_ends_behind_the_last_use_is_not_kept() -> None:
    ended: asyncio.Future[bytes]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(OK + b"content-length: 2\r\n\r\nhi")
        ended.set_result(await reader.read())
        writer.close()

    async def run() -> bytes:
        nonlocal ended
        ended = asyncio.get_running_loop().create_future()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            upstream = Upstream(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", allow_private=True)
            async with asyncio.timeout(5):
                async with upstream.post("/chat/completions", b"{}", "") as answer:
                    upstream.close()
                    assert await answer.whole(100) == b"hi"
                return await ended

    assert asyncio.run(run()) == b""


def test_a_stream_is_over_when_it_says_so() -> None:
    """A provider that keeps the connection open behind its last word keeps nobody waiting."""
    assert asked([chunked(PIECE + b"data: [DONE]\n\n", b"")], hold=True)[0] == ["hi"]
