"""R12: the disk under the prediction log is full, or fails: what is said then is true, level by level."""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fairlead.errors import Corrupt
from tests.faults.bar import Bar, twin
from tests.faults.caller import Answer, Calls
from tests.faults.conftest import Ground

pytestmark = pytest.mark.faults
RATE, BEFORE, AFTER = 100, 1.0, 2.5
SPACE = 300


@contextmanager
def small_disk(plant: Ground) -> Iterator[None]:
    """A file system of 300 kB, which the load fills, and which grows when this ends."""
    journal = plant.state / "predictions" / "journal"
    journal.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o"]
    subprocess.run([*mount, f"size={SPACE}k", "tmpfs", journal], check=True)
    try:
        yield
        subprocess.run([*mount, f"remount,size={64 * SPACE}k", "tmpfs", journal], check=True)
    except BaseException:
        subprocess.run(["umount", "-l", journal], check=True)
        raise


def unmount(plant: Ground) -> None:
    """Keep what the small disk held, and let go of it."""
    journal = plant.state / "predictions" / "journal"
    if journal.is_mount():
        plant.stop()
        copy = journal.with_name("copy")
        shutil.copytree(journal, copy)
        subprocess.run(["umount", journal], check=True)
        shutil.copytree(copy, journal, dirs_exist_ok=True)


@contextmanager
def no_growth(plant: Ground) -> Iterator[None]:
    """No file of the gateway may grow: what a quota does, without privileges."""
    pid = plant.served["gateways"][0]
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    size = _journal(plant).stat().st_size
    # In the middle of a frame: part of it is written, then the disk says no.
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, hard))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def failing(plant: Ground, call: str, error: str) -> Iterator[None]:
    """The kernel answers every `call` on the journal by `error`."""
    pid = plant.served["gateways"][0]
    # Others write too, but nobody else syncs: a new journal file fails like the old one.
    only = ["-P", str(_journal(plant))] if call == "write" else []
    tracer = subprocess.Popen(
        ["strace", "-f", "-p", str(pid), "-o", "/dev/null", *only, "-e", f"trace={call}",
         "-e", f"inject={call}:error={error}"], stderr=subprocess.PIPE)  # fmt: skip
    assert tracer.stderr is not None and b"attached" in tracer.stderr.readline()
    try:
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.communicate(timeout=10)


def _journal(plant: Ground) -> Path:
    return max((plant.state / "predictions" / "journal").glob("*.log"))


@contextmanager
def harmed(plant: Ground, harm: str) -> Iterator[None]:
    match harm:
        case "full":
            with no_growth(plant):
                yield
        case "sync":
            with failing(plant, "fdatasync", "EIO"):
                yield
        case "write":
            with failing(plant, "write", "ENOSPC"):
                yield


def logged(answer: Answer) -> bool:
    """Whether the caller was told that its prediction is in the log."""
    return answer.status == 200 and b'"logged":false' not in answer.body


def suffer(plant: Ground, level: str, harm: str) -> tuple[list[Answer], float, float]:
    """All answers, and from when until when the disk failed (monotonic)."""
    plant.publish(plant.package())
    plant.start(durability=level)
    calls = Calls(plant.port, (RATE, BEFORE + 1.5 + AFTER))
    end = time.monotonic() + BEFORE
    plant.wait(lambda: time.monotonic() > end)
    with harmed(plant, harm):
        began, end = time.monotonic(), time.monotonic() + 1.5
        plant.wait(lambda: time.monotonic() > end)
        ended = time.monotonic()
    return calls.answers(), began, ended


def judge(bar: Bar, plant: Ground, level: str, answers: list[Answer], since: float, until: float,
          ) -> None:  # fmt: skip
    told = [a.id for a in answers if logged(a)]
    # No clean end: what is in the files now is what a crash would leave.
    os.kill(plant.served["gateways"][0], signal.SIGKILL)
    try:
        stored = [r["id"] for r in plant.rows()]
    except Corrupt:
        bar(f"`{level}`: journals that cannot be read", 1, "= 0")
        return
    # At `memory` what was said within the last moments before a kill, or a refusal, may be gone.
    most = "<= 10" if level == "memory" else "= 0"
    bar(f"`{level}`: acknowledged and missing", len(set(told) - set(stored)), most)
    if level == "fsync":
        bar(f"`{level}`: stored and not acknowledged", len(set(stored) - set(told)), "= 0")
        refused = [a for a in answers if a.status != 200]
        assert refused
        bar(f"`{level}`: refusals that are not 503 `journal` with Retry-After",
            sum(not (a.status == 503 and a.retry_after and b'"journal"' in a.body) for a in refused), "= 0")  # fmt: skip
    else:
        bar(f"`{level}`: refused", sum(a.status != 200 for a in answers), "= 0")
        bar(f"`{level}`: answered meanwhile and not in the log afterwards",
            len({a.id for a in answers if a.status == 200} - set(stored)), "= 0")  # fmt: skip
    if level != "memory":
        bar(f"`{level}`: acknowledged while the disk refused",
            sum(logged(a) for a in answers if since + 0.1 < a.due and a.done < until), "= 0")  # fmt: skip
        back = min((a.done for a in answers if logged(a) and a.due > until), default=float("inf"))
        bar(f"`{level}`: acknowledges again after", back - until, "<= 2 s")


CASES = [
    ("fsync", "full", ""), ("os", "full", ""), ("memory", "full", ""), ("fsync", "sync", ""),
    ("fsync", "write", ""), ("os", "write", ""),
    ("fsync", "sync", "sync_believed"), ("os", "full", "halves_left"), ("os", "full", "silent_disk"),
]  # fmt: skip


@pytest.mark.parametrize(("level", "harm", "bug"), [
    pytest.param(*c, *(twin(f"tests.faults.bugs.{b}").values if b else ("",)),
                 marks=twin(f"tests.faults.bugs.{b}").marks if b else (), id="-".join([*c, b]).rstrip("-"))
    for *c, b in CASES])  # fmt: skip
def test_r12_the_disk_refuses(plant: Ground, bar: Bar, level: str, harm: str) -> None:
    if harm != "full" and shutil.which("strace") is None:
        pytest.skip("strace injects these errors, and is not installed")
    answers, since, until = suffer(plant, level, harm)
    judge(bar, plant, level, answers, since, until)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("level", ["fsync", "os"])
def test_r12_a_small_disk(plant: Ground, bar: Bar, level: str) -> None:
    try:
        with small_disk(plant):
            plant.publish(plant.package())
            plant.start(durability=level)
            calls = Calls(plant.port, (300, 8.0))
            since = plant.wait(lambda: plant.status()["journal"]["trouble"] and time.monotonic())
            end = time.monotonic() + 1.0
            plant.wait(lambda: time.monotonic() > end)
        until = time.monotonic()
        judge(bar, plant, level, calls.answers(), since, until)
    finally:
        unmount(plant)
