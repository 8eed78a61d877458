#!/usr/bin/env python3
"""Verify an exported audit bundle with nothing but the standard library of Python 3.9 or newer.

    python3 verify.py BUNDLE [--key HEX] [--checkpoint FILE]

BUNDLE: the folder `fairlead audit export` wrote. HEX: the public key you were given by another way.
FILE: a checkpoint published earlier; only it shows that a log was rewritten and signed anew whole.
Checked: events name the seal (SHA-256) of the one before, without a gap; checkpoints are signed
(Ed25519), name the one before, state seal and Merkle root (RFC 6962) of the events so far, the
last of all; every artifact has the digest of its content, or an event that it was erased, and an
event that made it. Exit status 0: all holds.
"""

import argparse
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, Optional

PREFIX = b"fairlead-checkpoint-v1\n"


class Broken(Exception):
    """What does not hold, in words."""


# Ed25519, verification only (RFC 8032, section 6)
P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
Point = tuple[int, int, int, int]
ROOT = pow(2, (P - 1) // 4, P)


def add(a: Point, b: Point) -> Point:
    """The sum of two points in extended coordinates."""
    c, d = (a[1] - a[0]) * (b[1] - b[0]), (a[1] + a[0]) * (b[1] + b[0])
    e, f = 2 * a[3] * b[3] * D, 2 * a[2] * b[2]
    return ((d - c) * (f - e) % P, (f + e) * (d + c) % P, (f - e) * (f + e) % P, (d - c) * (d + c) % P)


def times(number: int, point: Point) -> Point:
    """A point added to itself `number` times."""
    result = (0, 1, 1, 0)
    while number:
        result = add(result, point) if number & 1 else result
        point, number = add(point, point), number >> 1
    return result


def point_of(data: bytes) -> Optional[Point]:
    """The point that 32 bytes stand for; None when there is none."""
    sign, y = divmod(int.from_bytes(data, "little"), 2**255)
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    x = x * ROOT % P if (x * x - xx) % P else x
    x = P - x if x & 1 != sign else x
    return None if (x * x - xx) % P or (sign and not x % P) else (x, y, 1, x * y % P)


BASE = point_of((4 * pow(5, P - 2, P) % P).to_bytes(32, "little")) or (0, 1, 1, 0)


def signed(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) over `message` was made with the key behind `key`."""
    owner, commitment, scalar = point_of(key), point_of(signature[:32]), int.from_bytes(signature[32:], "little")
    if len(key) != 32 or owner is None or commitment is None or scalar >= ORDER:
        return False
    hashed = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little")
    a, b = times(scalar, BASE), add(commitment, times(hashed % ORDER, owner))
    return not ((a[0] * b[2] - b[0] * a[2]) % P or (a[1] * b[2] - b[1] * a[2]) % P)


def lines(path: str) -> Iterator[bytes]:
    """The lines of a file, without their ends. Every line must have one."""
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                raise Broken("%s does not end with a line" % os.path.basename(path))
            yield line[:-1]


def parsed(line: bytes, where: str, strictly: bool = False) -> dict[str, Any]:
    """A line of JSON as an object; `strictly`: in the one spelling that has no other."""
    try:
        value = dict(json.loads(line.decode("utf-8")).items())
        if not strictly or spelled(value) == line:
            return value
    except (AttributeError, ValueError, RecursionError):
        pass
    raise Broken("%s is not a JSON object in the spelling of the log" % where)


def checkpoints(path: str, key: str) -> list[dict[str, Any]]:
    """The bodies of the checkpoints of a file in order, each with its signature verified."""
    prev, found = "", list[dict[str, Any]]()
    for number, line in enumerate(lines(path), 1):
        entry = parsed(line, "checkpoint %d" % number, strictly=True)
        check(entry, key)
        body = entry["checkpoint"]
        if body["number"] != number or body["prev"] != prev:
            raise Broken("checkpoint %d does not follow the one before it" % number)
        prev = hashlib.sha256(spelled(body)).hexdigest()
        found.append(body)
    if not found:
        raise Broken("there is no checkpoint")
    return found


def check(entry: dict[str, Any], trusted: str) -> None:
    """Raises Broken unless a checkpoint is signed with the key `trusted` ("": with any)."""
    try:
        if trusted not in ("", entry["key"]):
            raise Broken("checkpoint %s is signed by another key" % entry["checkpoint"]["number"])
        key, signature = bytes.fromhex(entry["key"]), bytes.fromhex(entry["signature"])
        good = signed(key, PREFIX + spelled(entry["checkpoint"]), signature)
        good = good and (key.hex(), signature.hex()) == (entry["key"], entry["signature"])
    except (KeyError, TypeError, ValueError):
        raise Broken("a checkpoint cannot be read") from None
    if not good:
        raise Broken("the signature of checkpoint %s is wrong" % entry["checkpoint"].get("number"))


def spelled(value: Any) -> bytes:
    """The JSON of a value in the order it was read, without spaces, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def chain(path: str, stops: dict[int, list[Any]], subjects: set[str]) -> int:
    """Follow the chain of events and hold it against `stops`: {seq: [checkpoints]}; how many."""
    sha, prev, seq = hashlib.sha256, "", 0
    peaks: list[bytes] = []
    for seq, line in enumerate(lines(path), 1):
        event = parsed(line, "event %d" % seq)
        if event.get("seq") != seq or event.get("prev") != prev:
            raise Broken("event %d does not follow from the one before it" % seq)
        prev = sha(line).hexdigest()
        node, size = sha(b"\x00" + prev.encode()).digest(), seq - 1
        while size & 1:
            node, size = sha(b"\x01" + peaks.pop() + node).digest(), size >> 1
        peaks.append(node)
        subjects.add(str(event.get("subject")))
        for stop in stops.pop(seq, ()):
            top = functools.reduce(lambda a, b: sha(b"\x01" + b + a).digest(), reversed(peaks))
            if stop["seal"] != prev or stop["root"] != top.hex():
                raise Broken("event %d is not what checkpoint %d saw" % (seq, stop["number"]))
    if stops:
        raise Broken("a checkpoint saw event %d, the log ends at %d" % (max(stops), seq))
    return seq


def verify(folder: str, key: str, published: dict[str, Any]) -> tuple[int, int]:
    """Check a bundle; the numbers of events and checkpoints. Raises Broken."""
    found = checkpoints(os.path.join(folder, "checkpoints.jsonl"), key)
    stops, subjects = dict[int, list[Any]](), set[str]()
    for body in found:
        stops.setdefault(body["seq"], []).append(body)
    if published:
        check(published, key)
        stops.setdefault(published["checkpoint"]["seq"], []).append(published["checkpoint"])
    count = chain(os.path.join(folder, "events.jsonl"), stops, subjects)
    if found[-1]["seq"] != count:
        raise Broken("the last checkpoint saw event %d, the log has %d" % (found[-1]["seq"], count))
    told = {subject for subject in subjects if len(subject.partition("@")[2]) == 64}
    for artifact in (parsed(i, "an artifact", True) for i in lines(os.path.join(folder, "artifacts.jsonl"))):
        ref, spec = str(artifact.get("ref")), str(artifact.get("spec")).encode()
        whole = ref[-64:] == hashlib.sha256(spec).hexdigest() or ref + " erased" in subjects
        if ref not in told or not whole:
            raise Broken("artifact %s is not what the log tells of" % ref)
        told.remove(ref)
    if told:
        raise Broken("the log tells of %s, which is missing" % min(told))
    return count, len(found)


def main() -> int:
    """Read the arguments, verify, say what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, default in (("bundle", None), ("--key", ""), ("--checkpoint", "")):
        parser.add_argument(name, default=default)
    given = parser.parse_args()
    try:
        last = list(lines(given.checkpoint))[-1] if given.checkpoint else b"{}"
        numbers = verify(given.bundle, given.key, parsed(last, "the published checkpoint"))
    except (Broken, OSError, IndexError) as error:
        print("BROKEN: %s" % error)
        return 1
    print("intact: %d events, %d checkpoints, last one covers all" % numbers)
    if not (given.key and given.checkpoint):
        print("note: without --key and --checkpoint, a bundle made anew by its owner would pass")
    return 0


if __name__ == "__main__":
    sys.exit(main())
