"""A stand-in provider: an OpenAI-compatible server for a desk without an account. It is no language model.

It answers with the line of the system prompt that has most words in common with the question, one
word after the other. What comes after a dash in the name of the model makes it misbehave, so that
one can see what the gateway does about it: -slow, -broken, -busy, -dying, -faint, -mute, -empty, -moved, -choosy, -flood.

    python examples/helpdesk/upstream.py [PORT]     # 9000
"""

import asyncio
import json
import os
import re
import socket
import sys
import time
from typing import Any

KEY = os.environ.get("HELPDESK_KEY", "")
"""What callers must show, where it is set."""
PAUSE, SLOW = 0.002, 0.05
"""Seconds from word to word."""
UNKNOWN = "I do not know. A colleague will write to you."
REASONS = {200: "OK", 302: "Found", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
           429: "Too Many Requests", 500: "Internal Server Error"}  # fmt: skip
seen: dict[str, Any] = {"connections": 0, "requests": 0, "gone_at": 0.0, "held": 0, "last": None}
"""What this server met; `held`: the most bytes that a caller left unread."""


def words(text: str) -> set[str]:
    return {w for w in re.findall(r"[a-z]+", text.lower()) if len(w) > 3}


def answer(messages: list[dict[str, Any]]) -> str:
    """The line of the prompt that fits the question best."""
    asked = words(next((m["content"] for m in reversed(messages) if m["role"] == "user"), ""))
    known = [line for m in messages if m["role"] == "system" for line in m["content"].splitlines()]
    best = max(known, key=lambda line: len(asked & words(line)), default="")
    return best if asked & words(best) else UNKNOWN


class Caller:
    """One connection: requests in, answers out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def serve(self) -> None:
        seen["connections"] += 1
        try:
            while head := (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                length = re.search(r"content-length: (\d+)", head, re.I)
                body = await self.reader.readexactly(int(length[1]) if length else 0)
                if not await self.one(head, body):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writer.close()

    async def one(self, head: str, body: bytes) -> bool:
        """Answer one request; whether the connection goes on."""
        if head.startswith("GET /seen"):
            return self.say(200, seen)
        seen["requests"] += 1
        if KEY and f"authorization: Bearer {KEY}".lower() not in head.lower():
            shown = re.search(r"authorization: (.*)\r\n", head, re.I)
            return self.say(401, fault(f"Incorrect API key provided: {shown[1] if shown else 'none'}"))
        seen["last"] = asked = json.loads(body)
        manner = asked["model"].rpartition("-")[2]
        match manner:
            case "broken":
                return self.say(500, fault("the engine is on fire"))
            case "busy":
                return self.say(429, fault("slow down"), "retry-after: 7\r\n")
            case "moved":
                return self.say(302, {}, "location: http://169.254.169.254/\r\n")
            case "choosy":
                return self.say(400, fault("this question is not for me"))
            case "mute":
                await self.reader.read(1)
                return self.noticed()
        text = answer(asked["messages"]) if "messages" in asked else f"You said: {asked['prompt']}"
        told = {"empty": [], "flood": ["x" * 2000] * 4000}.get(manner, text.split())
        limit = asked.get("max_tokens", 10_000)
        if asked.get("stream"):
            return await self.stream(asked, told[:limit], manner)
        return self.say(200, whole(asked, told[:limit]))

    async def stream(self, asked: dict[str, Any], told: list[str], manner: str) -> bool:
        """Word by word, until the caller has gone."""
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        gone = asyncio.ensure_future(self.reader.read(1))
        self.event(chunk(asked, {"role": "assistant", "content": ""}))
        for i, word in enumerate(told):
            if (manner, i) in (("dying", 3), ("faint", 0)):
                return False
            self.event(chunk(asked, {"content": word if not i else f" {word}"}))
            seen["held"] = max(seen["held"], self.writer.transport.get_write_buffer_size())
            await asyncio.wait([gone], timeout={"slow": SLOW, "flood": 0}.get(manner, PAUSE))
            if gone.done():
                return self.noticed()
        gone.cancel()
        await asyncio.wait([gone])
        self.event(chunk(asked, {}, "stop"))
        self.event({**chunk(asked, {}), "choices": [], "usage": usage(asked, told)})
        self.chunk(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        return True

    def noticed(self) -> bool:
        seen["gone_at"] = time.monotonic()
        return False

    def event(self, value: dict[str, Any]) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def say(self, status: int, value: Any, headers: str = "") -> bool:
        body = json.dumps(value).encode()
        self.writer.write(f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\n{headers}"
                          f"content-length: {len(body)}\r\n\r\n".encode() + body)  # fmt: skip
        return True


def chunk(asked: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": asked["model"], "choices": [choice]}


def whole(asked: dict[str, Any], told: list[str]) -> dict[str, Any]:
    text = " ".join(told)
    said: dict[str, Any] = {"message": {"role": "assistant", "content": text}} if "messages" in asked else {"text": text}
    kind = "chat.completion" if "messages" in asked else "text_completion"
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": asked["model"],
            "choices": [{"index": 0, **said, "finish_reason": "stop"}], "usage": usage(asked, told)}  # fmt: skip


def usage(asked: dict[str, Any], told: list[str]) -> dict[str, int]:
    said = " ".join(m["content"] for m in asked["messages"]) if "messages" in asked else asked["prompt"]
    n = len(said.split())
    return {"prompt_tokens": n, "completion_tokens": len(told), "total_tokens": n + len(told)}


def fault(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "stand_in"}}


async def main(port: int) -> None:
    server = await asyncio.start_server(lambda r, w: Caller(r, w).serve(), "127.0.0.1", port)
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
    print(f"stand-in provider on http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 9000))
