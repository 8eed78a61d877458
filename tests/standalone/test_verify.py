"""The audit trail as a stranger meets it: a bundle, a bare Python, and somebody who rewrote history."""

import json
import random
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from fairlead.adapters.anchors.folder import FolderAnchor
from fairlead.adapters.keys.local import LocalSigner
from fairlead.adapters.records.memory import MemoryRecords
from fairlead.core.artifact import Artifact, ModelSpec, name_of
from fairlead.core.encoding import Encoding
from fairlead.core.merkle import proves
from fairlead.core.schema import Schema
from fairlead.errors import Corrupt
from fairlead.flow.audit import Notary
from fairlead.ports import Change
from fairlead.standalone import verify

PROGRAM = Path(verify.__file__)


class Ticking:
    """A clock a second later at every look."""

    at = 1_790_000_000.0

    def now(self) -> float:
        self.at += 1
        return self.at


def log_of(folder: Path, events: int = 40, every: int = 7) -> tuple[MemoryRecords, Notary]:
    """A log with a checkpoint every few events, some of them published to ``witness``."""
    records, clock = MemoryRecords(), Ticking()
    notary = Notary(records, LocalSigner(folder / "keys" / "audit"), clock, folder / "checkpoints",
                    [("witness", FolderAnchor(folder / "witness"))])  # fmt: skip
    for i in range(1, events + 1):
        spec = ModelSpec(flavor="onnx", task="binary", inputs=Schema(columns=()), files={},
                         encoding=Encoding(()), params={"i": i})  # fmt: skip
        made = Artifact(ref=name_of("m", spec), spec=spec, created_at=clock.now())
        records.commit(Change(at=clock.now(), actor="ann", verb="model.trained", subject=str(made.ref),
                              body={"note": f"Größe {i}", "n": i / 3}, artifacts=(made,)))  # fmt: skip
        if i % every == 0:
            notary.checkpoint()
            assert not notary.publish()
    return records, notary


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    _, notary = log_of(folder, every=15)
    notary.export(folder / "bundle", PROGRAM, lambda n: None)
    return folder / "bundle"


def judged(folder: Path, key: str = "", published: Path | None = None) -> str:
    """What the verifier finds, "" for an intact bundle."""
    try:
        found = {} if published is None else json.loads(published.read_text().splitlines()[-1])
        verify.verify(str(folder), key, found)
    except verify.Broken as error:
        return str(error)
    return ""


def test_a_bare_python_verifies_a_bundle(bundle: Path) -> None:
    key = json.loads((bundle / "checkpoints.jsonl").read_text().splitlines()[0])["key"]
    witness = max((bundle.parent / "witness").iterdir())
    done = subprocess.run(
        [sys.executable, "-I", "-S", bundle / "verify.py", bundle, "--key", key, "--checkpoint", witness],
        capture_output=True, text=True, env={}, cwd="/", check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "intact: 40 events, 3 checkpoints, last one covers all\n")
    assert len(PROGRAM.read_text().splitlines()) < 200
    assert "fairlead" not in [line.split()[1].partition(".")[0] for line in
                              PROGRAM.read_text().splitlines() if line.startswith(("import", "from"))]  # fmt: skip


def flip(lines: list[bytes], draw: random.Random) -> list[bytes]:
    """One bit of one byte."""
    row = draw.randrange(len(lines))
    data = bytearray(lines[row])
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return [*lines[:row], bytes(data), *lines[row + 1 :]]


def delete(lines: list[bytes], draw: random.Random) -> list[bytes]:
    row = draw.randrange(len(lines))
    return lines[:row] + lines[row + 1 :]


def swap(lines: list[bytes], draw: random.Random) -> list[bytes]:
    a, b = draw.sample(range(len(lines)), 2)
    lines = list(lines)
    lines[a], lines[b] = lines[b], lines[a]
    return lines


def insert(lines: list[bytes], draw: random.Random) -> list[bytes]:
    row = draw.randrange(len(lines) + 1)
    return [*lines[:row], draw.choice(lines), *lines[row:]]


def truncate(lines: list[bytes], draw: random.Random) -> list[bytes]:
    return lines[: draw.randrange(len(lines))]


def fork(lines: list[bytes], draw: random.Random) -> list[bytes]:
    """From some event on another history, each event sealed as it should be."""
    row = draw.randrange(len(lines))
    out, prev = lines[:row], None
    for line in lines[row:]:
        event = json.loads(line)
        event["actor"] = "eve"
        if prev is not None:
            event["prev"] = prev
        out.append(verify.spelled(event) + b"\n")
        prev = sha256(out[-1][:-1]).hexdigest()
    return out


MUTATIONS: dict[str, list[Callable[[list[bytes], random.Random], list[bytes]]]] = {
    "events.jsonl": [flip, delete, swap, insert, truncate, fork],
    "checkpoints.jsonl": [flip, swap, insert],
    "artifacts.jsonl": [flip, delete, insert, truncate],
}


def mutate(bundle: Path, times: int) -> int:
    """Mutate one file `times` times; how many mutations were found."""
    found, draw = 0, random.Random(7)
    kinds = [(name, kind) for name, all_of in MUTATIONS.items() for kind in all_of]
    for i in range(times):
        name, kind = kinds[i % len(kinds)]
        path, before = bundle / name, (bundle / name).read_bytes()
        changed = b"".join(kind(before.splitlines(keepends=True), draw))
        assert changed != before, kind
        path.write_bytes(changed)
        found += judged(bundle) != ""
        path.write_bytes(before)
    return found


def test_random_mutations_are_found(bundle: Path) -> None:
    assert judged(bundle) == ""
    assert mutate(bundle, 130) == 130


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_thousand_random_mutations_are_found(bundle: Path) -> None:
    assert mutate(bundle, 10_000) == 10_000


def test_a_log_signed_anew_is_found_by_a_published_checkpoint_only(tmp_path: Path) -> None:
    """Whoever holds the key can make another whole history; not one that agrees with a witness."""
    log_of(tmp_path)
    witness = max((tmp_path / "witness").iterdir())
    key = json.loads(witness.read_text())["key"]
    other = tmp_path / "other"
    (other / "keys").mkdir(parents=True)
    (other / "keys" / "audit").write_bytes((tmp_path / "keys" / "audit").read_bytes())
    _, notary = log_of(other, events=41)
    notary.export(other / "bundle", PROGRAM, lambda n: None)
    events = (other / "bundle" / "events.jsonl").read_text()
    assert judged(other / "bundle", key) == ""
    assert judged(other / "bundle", key, witness) == "", "the same history up to there"
    (other / "bundle").rename(other / "first")
    (other / "checkpoints").rename(other / "aside")
    notary = forged(other, events)
    notary.export(other / "bundle", PROGRAM, lambda n: None)
    assert judged(other / "bundle", key) == "", "without a witness it looks fine"
    assert judged(other / "bundle", key, witness) == "event 35 is not what checkpoint 5 saw"


def forged(folder: Path, events: str) -> Notary:
    """The same history with another actor in one event, signed with the same key."""
    records = MemoryRecords()
    for line in events.splitlines():
        event = json.loads(line)
        records.commit(Change(at=event["at"], verb=event["verb"], subject="x", body=event["body"],
                              actor="eve" if event["seq"] == 20 else event["actor"]))  # fmt: skip
    return Notary(records, LocalSigner(folder / "keys" / "audit"), Ticking(), folder / "checkpoints")


def test_a_log_changed_in_the_store_is_found_when_the_next_checkpoint_is_signed(tmp_path: Path) -> None:
    _, notary = log_of(tmp_path)
    notary.export(tmp_path / "bundle", PROGRAM, lambda n: None)
    with pytest.raises(Corrupt, match="event 40 is not what checkpoint 6 saw"):
        forged(tmp_path, (tmp_path / "bundle" / "events.jsonl").read_text()).checkpoint()


def test_an_anchor_out_of_reach_gets_everything_later(tmp_path: Path) -> None:
    records, _ = log_of(tmp_path, events=3, every=9)
    blocked = tmp_path / "elsewhere"
    blocked.write_text("not a folder")
    notary = Notary(records, LocalSigner(tmp_path / "keys" / "audit"), Ticking(), tmp_path / "checkpoints",
                    [("elsewhere", FolderAnchor(blocked))])  # fmt: skip
    notary.checkpoint()
    assert "cannot be written" in notary.publish()[0]
    assert notary.due(1e9, 1000), "an anchor still waits"
    blocked.unlink()
    assert not notary.publish()
    assert len(list(blocked.iterdir())) == 1
    assert not notary.due(1e9, 1000)


def test_one_event_is_proven_in_less_than_a_kilobyte(tmp_path: Path) -> None:
    _, notary = log_of(tmp_path)
    for seq in range(1, 41):
        proof = notary.prove(seq)
        said = proof.signed.checkpoint
        assert proves(proof.seal.encode(), seq - 1, said.seq, proof.path, said.root)
        assert not proves(proof.seal.encode(), (seq + 3) % 40, said.seq, proof.path, said.root)
        assert len("".join(proof.path)) < 1000
