"""The conformance suite of `ports.Blobs`: every engine passes the same tests."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from threading import Thread

import obstore
import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore

from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.blobs.objects import ObjectBlobs
from fairlead.errors import Conflict, Corrupt, Invalid, Missing
from fairlead.ports import Blobs

Opened = tuple[Blobs, Callable[[str, bytes], None]]


def local(folder: Path) -> Opened:
    store = LocalStore(prefix=folder / "blobs", mkdir=True)
    return LocalBlobs(folder / "blobs"), _damager(store)


def memory(folder: Path) -> Opened:
    store = MemoryStore()
    return ObjectBlobs(store), _damager(store)


def _damager(store: LocalStore | MemoryStore) -> Callable[[str, bytes], None]:
    def damage(digest: str, data: bytes) -> None:
        obstore.put(store, f"{digest[:2]}/{digest}", data)

    return damage


ENGINES = [local, memory]
ABSENT = sha256(b"absent").hexdigest()


@pytest.fixture(params=ENGINES, ids=lambda f: str(f.__name__))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    engine: Callable[[Path], Opened] = request.param
    return engine(tmp_path)


@pytest.fixture
def blobs(opened: Opened) -> Blobs:
    return opened[0]


@pytest.mark.parametrize("data", [b"", b"hello", bytes(range(256)) * 50_000])
def test_what_is_put_is_got_by_its_sha256(blobs: Blobs, data: bytes) -> None:
    assert blobs.put(data) == sha256(data).hexdigest()
    assert blobs.get(sha256(data).hexdigest()) == data
    assert blobs.put(data) == sha256(data).hexdigest()


@given(data=st.binary(max_size=300))
def test_law_put_get(data: bytes) -> None:
    blobs, _ = memory(Path())
    assert blobs.get(blobs.put(data)) == data


def test_a_file_is_stored_like_its_bytes(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"0123456789" * 1_000_000)
    digest = blobs.put(source)
    assert digest == blobs.put(source.read_bytes())
    blobs.fetch(digest, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == source.read_bytes()


def test_absent_blobs(blobs: Blobs, tmp_path: Path) -> None:
    assert not blobs.has(ABSENT)
    with pytest.raises(Missing, match=ABSENT):
        blobs.get(ABSENT)
    with pytest.raises(Missing):
        blobs.fetch(ABSENT, tmp_path / "target")
    with pytest.raises(Missing, match="cannot read"):
        blobs.put(tmp_path / "nothing")
    assert not list(tmp_path.glob("*target*"))
    assert not list(tmp_path.glob(".fetch*"))


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "AB" * 32, "ab" * 31, "ab" * 32 + "\n"])
def test_a_name_that_is_no_digest_is_refused(blobs: Blobs, digest: str) -> None:
    with pytest.raises(Invalid, match="not a digest"):
        blobs.get(digest)
    with pytest.raises(Invalid):
        blobs.has(digest)


def test_changed_bytes_are_noticed_and_old_files_kept(opened: Opened, tmp_path: Path) -> None:
    blobs, damage = opened
    digest = blobs.put(b"the truth")
    damage(digest, b"the lie!!")
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(Corrupt):
        blobs.get(digest)
    with pytest.raises(Corrupt):
        blobs.fetch(digest, target)
    assert target.read_bytes() == b"before"
    assert not list(tmp_path.glob(".fetch*"))


def test_a_torn_blob_heals_when_put_again(opened: Opened) -> None:
    blobs, damage = opened
    digest = blobs.put(b"the whole truth")
    damage(digest, b"the wh")
    assert blobs.put(b"the whole truth") == digest
    assert blobs.get(digest) == b"the whole truth"


def test_a_file_that_changes_underway_is_not_stored(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"one" * 1000)

    class Growing(type(source)):  # type: ignore[misc]
        opened = 0

        def open(self, *args: object, **kwargs: object) -> object:
            self.opened += 1
            if self.opened == 2:
                source.write_bytes(b"two" * 1000)
            return super().open(*args, **kwargs)

    with pytest.raises(Conflict, match="changed"):
        blobs.put(Growing(source))
    assert not blobs.has(sha256(b"one" * 1000).hexdigest())


def test_many_writers_of_the_same_bytes(blobs: Blobs) -> None:
    data = b"same" * 100_000
    threads = [Thread(target=blobs.put, args=(data,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blobs.get(sha256(data).hexdigest()) == data


def test_the_folder_holds_blobs_by_fan_out_and_nothing_half_done(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "deep" / "blobs")
    digest = blobs.put(b"x")
    files = [p for p in (tmp_path / "deep" / "blobs").rglob("*") if p.is_file()]
    assert files == [tmp_path / "deep" / "blobs" / digest[:2] / digest]
