"""Slow connections by the thousand: `python -m tests.faults.attacker PORT COUNT SECONDS`.

Prints, as JSON, for each kind how many were still open at the end, and when the last one was closed.
"""

import asyncio
import contextlib
import json
import random
import resource
import socket
import sys
import time

HEAD = "POST /predict HTTP/1.1\r\nhost: localhost\r\n"
LARGE = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n" * 4
FIRST = {"silent": b"", "slow head": HEAD.encode(), "slow reader": LARGE,
         "slow body": f"{HEAD}content-length: 1000\r\n\r\n".encode()}  # fmt: skip
"""What each kind says at once."""
KINDS = ("silent", "slow head", "slow body", "slow reader")
READERS = 20
"""One in so many does not read its answers: they cost the gateway real work."""
RAMP, DRIP = 4.0, 0.8
"""Seconds in which all of them come, and between two bytes of one."""


async def attack(kind: str, port: int, end: float) -> float | None:
    """One connection; how many seconds it lived, None when it still does."""
    await asyncio.sleep(random.random() * RAMP)
    line = socket.socket()
    line.setblocking(False)
    if kind == "slow reader":
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    begin, loop = time.monotonic(), asyncio.get_running_loop()
    try:
        await loop.sock_connect(line, ("127.0.0.1", port))
        begin = time.monotonic()
        await loop.sock_sendall(line, FIRST[kind])
        while time.monotonic() < end:
            if kind == "slow reader":
                if not await asyncio.wait_for(loop.sock_recv(line, 16), 5):
                    return time.monotonic() - begin
                await asyncio.sleep(DRIP)
                continue
            if kind != "silent":
                await loop.sock_sendall(line, b"x")
            with contextlib.suppress(TimeoutError):
                if not await asyncio.wait_for(loop.sock_recv(line, 4096), DRIP):
                    return time.monotonic() - begin
    except OSError:
        return time.monotonic() - begin
    finally:
        line.close()
    return None


async def main(port: int, count: int, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    end = time.monotonic() + seconds
    kinds = [KINDS[3] if i % READERS == 0 else KINDS[i % 3] for i in range(count)]
    lives = await asyncio.gather(*(attack(k, port, end) for k in kinds))
    told = {k: [life for name, life in zip(kinds, lives, strict=True) if name == k] for k in KINDS}
    json.dump({k: {"open": v.count(None), "longest": max([x for x in v if x is not None], default=0.0)}
               for k, v in told.items()}, sys.stdout)  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
