"""An open-loop caller in a process of its own: requests leave when they are due, whatever comes back."""

import asyncio
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["Answer", "Calls", "percentile"]

BODY = {"distance": 0.5, "carrier": "UA", "hour": 7, "late": False}
TICK = 0.001


class Answer(Struct, array_like=True):
    """`due`, `sent`, `done`: monotonic seconds. Status 0: the connection broke. `tries`: 1, or 2
    after a retry."""

    due: float
    sent: float
    done: float
    status: int
    id: str
    retry_after: bool
    tries: int
    body: bytes

    @property
    def seconds(self) -> float:
        return self.done - self.due


class Plan(Struct, kw_only=True):
    """`steps`: (requests a second, seconds), one after the other. A request whose connection breaks
    is sent once more when `retry`. `close`: each goes over a connection of its own. `patience`: seconds to wait for the last answers."""

    port: int
    steps: list[tuple[float, float]]
    bodies: list[str]
    connections: int = 16
    retry: bool = False
    close: bool = False
    patience: float = 10.0


class Calls:
    """Start it, do harm, then `answers()`."""

    def __init__(self, port: int, *steps: tuple[float, float], bodies: Sequence[Any] = (BODY,),
                 **changes: Any) -> None:  # fmt: skip
        plan = Plan(port=port, steps=list(steps), bodies=[json.dumps(b) for b in bodies], **changes)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.caller", msgspec.json.encode(plan).decode()],
            stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])  # fmt: skip
        assert self._process.stdout is not None
        self._out = self._process.stdout
        assert self._out.readline() == b"calling\n"

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @contextmanager
    def harm(self) -> Iterator[None]:
        """Harm is done while they call; they must end well nevertheless."""
        yield
        assert all(a.status == 200 for a in self.answers())

    def answers(self) -> list[Answer]:
        """All of them, in the order in which they were due."""
        data = self._out.read()
        assert self._process.wait(10) == 0
        self._out.close()
        return msgspec.msgpack.decode(data, type=list[Answer])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Caller:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.answers = plan, list[Answer]()
        self.idle: list[_Line] = []
        self.waiting: deque[Answer] = deque()
        self.lines = self.left = 0
        last = "connection: close\r\n" if plan.close else ""
        self.requests = [
            f"POST /predict HTTP/1.1\r\nhost: localhost\r\n{last}content-length: {len(b)}\r\n\r\n{b}".encode()
            for b in plan.bodies]  # fmt: skip

    async def run(self) -> None:
        begin = time.monotonic()
        for rate, seconds in self.plan.steps:
            for i in range(int(rate * seconds)):
                due = begin + i / rate
                while (early := due - time.monotonic()) > 0:
                    await asyncio.sleep(min(early, TICK) if early < TICK else early)
                self.put(Answer(due, 0.0, 0.0, 0, "", False, 0, b""))
                if not i % 32:
                    await asyncio.sleep(0)
            begin += seconds
        end = time.monotonic() + self.plan.patience
        while self.left and time.monotonic() < end:
            await asyncio.sleep(0.005)

    def put(self, answer: Answer) -> None:
        self.answers.append(answer)
        self.left += 1
        self.waiting.append(answer)
        self.next()

    def next(self) -> None:
        while self.waiting and self.idle:
            self.idle.pop().send(self.waiting.popleft())
        while self.waiting and self.lines < self.plan.connections:
            self.lines += 1
            answer = self.waiting.popleft()
            task = asyncio.get_running_loop().create_task(self.dial(answer))
            task.add_done_callback(lambda t: t.result())

    async def dial(self, answer: Answer) -> None:
        try:
            _, line = await asyncio.get_running_loop().create_connection(
                lambda: _Line(self), "127.0.0.1", self.plan.port)  # fmt: skip
        except OSError:
            self.lines -= 1
            self.broken(answer)
        else:
            line.send(answer)

    def broken(self, answer: Answer) -> None:
        if self.plan.retry and answer.tries < 2:
            self.waiting.appendleft(answer)
            self.next()
        else:
            self.done(answer)

    def done(self, answer: Answer) -> None:
        answer.done = time.monotonic()
        self.left -= 1


class _Line(asyncio.Protocol):
    def __init__(self, caller: _Caller) -> None:
        self.caller, self.answer, self.data = caller, None, b""
        self.transport: Any = None

    answer: Answer | None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, answer: Answer) -> None:
        self.answer, self.data = answer, b""
        answer.tries, answer.sent = answer.tries + 1, time.monotonic()
        requests = self.caller.requests
        self.transport.write(requests[len(self.caller.answers) % len(requests)])

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found or len(body) < int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]):
            return
        answer, self.answer, caller = self.answer, None, self.caller
        if answer is not None:
            answer.status, answer.body = int(head[9:12]), body
            answer.id = body.partition(b'"id":"')[2][:26].decode()
            answer.retry_after = b"retry-after:" in head
            caller.done(answer)
        if b"connection: close" in head:
            self.transport.close()
        else:
            caller.idle.append(self)
            caller.next()

    def connection_lost(self, error: Exception | None) -> None:
        caller, answer = self.caller, self.answer
        caller.lines -= 1
        if self in caller.idle:
            caller.idle.remove(self)
        if answer is not None:
            self.answer = None
            caller.broken(answer)
        caller.next()


def main(text: str) -> None:
    import uvloop

    caller = _Caller(msgspec.json.decode(text, type=Plan))
    sys.stdout.write("calling\n")
    sys.stdout.flush()
    uvloop.run(caller.run())
    with open(1, "wb", closefd=False) as out:  # PYTHONUNBUFFERED would let a full pipe cut them short
        out.write(msgspec.msgpack.encode(caller.answers))


if __name__ == "__main__":
    main(sys.argv[1])
