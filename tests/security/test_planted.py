"""S5, S17: links and strange files planted in a state folder are refused; nothing outside is read or written."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from fairlead import dataplane
from fairlead.adapters.blobs.local import LocalBlobs
from fairlead.adapters.keys.local import LocalSigner
from fairlead.adapters.predictions.journals import Journal, entries
from fairlead.adapters.router.local import LocalRouter
from fairlead.core.journal import HEADER
from fairlead.core.ref import Ref
from fairlead.core.traffic import Arm, Route
from fairlead.disk import content, opened, secret, settle
from fairlead.errors import Corrupt, FairleadError
from fairlead.project import Project
from fairlead.serve import package
from fairlead.serve.config import GatewayConfig
from tests.serve.conftest import Plant, model

DATA = b"what is outside"
DIGEST = sha256(DATA).hexdigest()
Plan = Callable[[Path, Path], object]

PLANTS: dict[str, Plan] = {
    "a link to a file": lambda place, outside: place.symlink_to(outside / "file"),
    "a relative link": lambda place, outside: place.symlink_to(os.path.relpath(outside / "file", place.parent)),
    "a link to a folder": lambda place, outside: place.symlink_to(outside, target_is_directory=True),
    "a link to nothing": lambda place, outside: place.symlink_to(outside / "new"),
    "a second name": lambda place, outside: os.link(outside / "file", place),
    "a pipe": lambda place, _: os.mkfifo(place),
}
PLACES = ("records.db", "records.lock", "online.db", "run/route.json", "run/key", "run/serve.lock", "keys/audit", "alerts.log",
          "predictions/journal/0000-000000.log", "predictions/journal/.import.lock", "predictions/redaction.key",
          "predictions/segments/a.parquet", f"packages/{DIGEST}", "blobs/ab", "checkpoints/lock")  # fmt: skip
NAMES = ("..", ".", "", "/etc/passwd", "../file", "a/../../file", "a/b", "./file", "file/", "\0", "file\0.json", "..\0",
         "//file", "x/" * 40, "../" * 40 + "etc/passwd", "/proc/self/environ")  # fmt: skip
MANIFEST = "service: m\ndata: {source: a.csv, target: y}\ntrain: {code: t.py}\n"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that must be the same afterwards."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "file").write_bytes(DATA)
    (folder / DIGEST).write_bytes(DATA)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}
    yield folder
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()} == before


def project(root: Path) -> Path:
    (root / "fairlead.yaml").write_text(MANIFEST)
    Project.open(root).close()
    return root / ".fairlead"


@pytest.mark.parametrize("kind", PLANTS)
def test_a_project_with_something_planted_does_not_open(kind: str, tmp_path: Path, outside: Path) -> None:
    state = project(tmp_path)
    for name in PLACES:
        place = state / name
        place.parent.mkdir(parents=True, exist_ok=True)
        kept = place.read_bytes() if place.exists() else None
        place.unlink(missing_ok=True)
        PLANTS[kind](place, outside)
        with pytest.raises(Corrupt, match=f"{name} is ") as caught:
            Project.open(tmp_path)
        assert DATA.decode() not in str(caught.value)
        with pytest.raises(Corrupt, match=f"{name} is "):
            dataplane.serve(tmp_path, GatewayConfig(service="m"), None)
        place.unlink()
        if kept is not None:
            place.write_bytes(kept)
    Project.open(tmp_path).close()


def test_a_state_folder_elsewhere_or_of_somebody_else_is_refused(tmp_path: Path, outside: Path) -> None:
    state = tmp_path / ".fairlead"
    state.symlink_to(outside, target_is_directory=True)
    with pytest.raises(Corrupt, match="a link"):
        settle(state)
    state.unlink()
    state.mkdir(mode=0o777)
    settle(state)
    assert state.stat().st_mode & 0o777 == 0o700
    if not os.geteuid():
        os.chown(state, 65534, 65534)
        with pytest.raises(Corrupt, match="another user's"):
            settle(state)


@pytest.mark.parametrize("kind", PLANTS)
def test_a_package_with_a_planted_file_is_not_opened(kind: str, tmp_path: Path, outside: Path) -> None:
    plant = Plant(tmp_path)
    folder = plant.state / "packages" / plant.package().digest
    spec = package.read(folder)
    for name in ("model.onnx", "package.json"):
        whole = (folder / name).read_bytes()
        (folder / name).unlink()
        (outside.parent / "twin").write_bytes(whole)
        PLANTS[kind](folder / name, outside)
        with pytest.raises(Corrupt, match=f"{name} is "):
            package.files(folder, package.read(folder))
        (folder / name).unlink()
        # The right bytes by a link are refused as well: who may change them is not known.
        (folder / name).symlink_to(outside.parent / "twin")
        with pytest.raises(Corrupt, match=f"{name} is a link"):
            package.files(folder, package.read(folder))
        (folder / name).unlink()
        (folder / name).write_bytes(whole)
    assert package.files(folder, spec)["model.onnx"] == model()


@pytest.mark.parametrize("kind", [k for k in PLANTS if k != "a pipe"])
@pytest.mark.parametrize("place", ["folder", "file"])
def test_blobs_are_not_written_read_or_deleted_through_links(
    place: str, kind: str, tmp_path: Path, outside: Path
) -> None:
    blobs = LocalBlobs(tmp_path / "blobs")
    planted = tmp_path / "blobs" / DIGEST[:2]
    if place == "file":
        planted.mkdir()
        planted /= DIGEST
    PLANTS[kind](planted, outside)
    for act in (lambda: blobs.get(DIGEST), lambda: blobs.put(DATA), lambda: blobs.delete(DIGEST),
                lambda: blobs.has(DIGEST), lambda: blobs.fetch(DIGEST, tmp_path / "fetched")):  # fmt: skip
        with pytest.raises(Corrupt, match=" is "):
            act()
    planted.unlink()
    assert blobs.put(DATA) == DIGEST and blobs.get(DIGEST) == DATA


@pytest.mark.parametrize("kind", PLANTS)
def test_keys_routes_and_journals_are_not_followed(kind: str, tmp_path: Path, outside: Path) -> None:
    def planted(name: str) -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PLANTS[kind](tmp_path / name, outside)
        return tmp_path / name

    journal = Journal(gateway="0000", sequence=0, path=planted("journal/0000-000000.log"))
    for act in (lambda: secret(planted("a/key")), lambda: LocalSigner(planted("b/audit")).key,
                lambda: LocalRouter(planted("c/route.json").parent).published(), lambda: list(entries(journal))):  # fmt: skip
        with pytest.raises(Corrupt, match=" is "):
            act()
    router = LocalRouter(tmp_path / "d")
    planted("d/key")
    with pytest.raises(Corrupt, match="key is "):
        router.publish(Route(service="m", arms=(Arm(Ref("package", "m", DIGEST), 1.0),), epoch=1))


def test_names_cannot_leave_a_folder(tmp_path: Path, outside: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "a").mkdir(parents=True)
    for name in NAMES:
        for parts in ((name,), ("a", name), (name, "file"), ("a", name, "file")):
            with pytest.raises((Corrupt, FileNotFoundError, IsADirectoryError)):
                content(inside, *parts)
        with pytest.raises(FairleadError):
            LocalBlobs(tmp_path / "blobs").get(name)


def test_a_file_that_becomes_a_link_again_and_again_never_leads_out(tmp_path: Path, outside: Path) -> None:
    place, stop = tmp_path / "in" / "file", threading.Event()
    place.parent.mkdir()

    def swap() -> None:
        while not stop.is_set():
            (tmp_path / "link").symlink_to(outside / "file")
            (tmp_path / "link").replace(place)
            (tmp_path / "plain").write_bytes(b"inside")
            (tmp_path / "plain").replace(place)

    swapping, seen = threading.Thread(target=swap), {"read": 0, "refused": 0}
    swapping.start()
    try:
        while min(seen.values()) < 100:
            try:
                assert content(place.parent, "file") == b"inside"
                seen["read"] += 1
            except Corrupt:
                seen["refused"] += 1
            except FileNotFoundError:
                continue
    finally:
        stop.set()
        swapping.join()


def test_a_secret_is_made_once_whoever_comes_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(lambda _: secret(tmp_path / "keys" / "key"), range(32))}) == 1
    assert (tmp_path / "keys" / "key").stat().st_mode & 0o777 == 0o600
    (tmp_path / "keys" / "key").write_bytes(b"short")
    with pytest.raises(Corrupt, match="no secret"):
        secret(tmp_path / "keys" / "key")


def test_the_plants_are_real(tmp_path: Path, outside: Path) -> None:
    """The twin: whoever opens by path reads and finds what is outside."""
    for kind in ("a link to a file", "a relative link", "a second name"):
        PLANTS[kind](tmp_path / kind, outside)
        assert (tmp_path / kind).read_bytes() == DATA
    journal = tmp_path / "0000-000000.log"
    journal.write_bytes(HEADER)
    assert list(entries(Journal(gateway="0000", sequence=0, path=journal))) == []
    os.close(opened(tmp_path, "0000-000000.log"))
