"""The load generator: what an open loop says of a service that stalls."""

import asyncio
from itertools import repeat

from fairlead.api.load import Client

STALL = 0.3
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


async def stalling(requests: int, rate: float) -> tuple[list[float], list[float]]:
    """Latencies of a closed and of an open loop against a service that once stands still."""
    asked, over = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        while await reader.readline():
            while await reader.readline() != b"\r\n":
                pass
            await reader.readexactly(2)
            asked += 1
            if asked % requests == requests // 2:
                await asyncio.sleep(STALL)
            writer.write(ANSWER)
        writer.close()
        await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with Client("127.0.0.1", port, 1) as client:
        closed = await client.post("/", [b"{}"] * requests)
        open_ = await client.paced("/", repeat(b"{}"), rate, requests)
    await over.wait()
    server.close()
    await server.wait_closed()
    assert {a.status for a in (*closed, *open_)} == {200} and asked == 2 * requests
    return [a.seconds for a in closed], [a.seconds for a in open_]


def test_an_open_loop_omits_nothing() -> None:
    closed, paced = asyncio.run(stalling(200, 400.0))
    assert sum(s > STALL / 3 for s in closed) == 1
    # 0.2 s of requests were due while the service stood still for longer than that.
    assert sum(s > STALL / 3 for s in paced) > 0.6 * STALL * 400
