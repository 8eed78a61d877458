"""Any Python: a model that its own source opens and computes; served only by a replica that is walled in, and trusted."""

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from importlib.util import module_from_spec, spec_from_loader
from io import BytesIO, StringIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import IO, Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.proof import Proof, compare
from fairlead.core.weights import check_form
from fairlead.errors import Corrupt, Invalid, Missing
from fairlead.flavors import environment
from fairlead.flavors.files import Files, read
from fairlead.flavors.scores import scores

__all__ = ["FILE", "Bundle", "Declared", "Folder", "answers", "bundle", "declared", "export", "recall", "remember",
           "scorer"]  # fmt: skip

FILE, MAGIC = "model.python", b"FLPY1\n"
MOST = 1 << 30
"""Bytes that the state may have."""
Matrix = NDArray[np.float32]


class Bundle(Struct, frozen=True, kw_only=True):
    """The one file of such a model. `entry`: the source with ``load(folder)``; `sources`: text by path,
    of it and of what it imports from beside it; `state`: what ``save(folder)`` wrote, by path."""

    entry: str
    sources: dict[str, str]
    state: dict[str, bytes]


class Declared(Struct, frozen=True, kw_only=True):
    """What `train()` returned where `train.serve` of the manifest names the source that opens it:
    `entry`, of `sources` (text by path)."""

    estimator: Any
    entry: str
    sources: dict[str, str]


class Folder:
    """What `load` receives: the saved files, in memory, under the names of pathlib (`/`, open,
    read_bytes, read_text, iterdir, name, exists, is_dir, is_file). A replica reads no disk."""

    def __init__(self, state: Mapping[str, bytes], path: str = "") -> None:
        self._state, self._path = state, PurePosixPath(path)

    @property
    def name(self) -> str:
        return self._path.name

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self._state, str(self._path / name))

    joinpath = __truediv__

    def read_bytes(self) -> bytes:
        """Raises FileNotFoundError."""
        if not self.is_file():
            raise FileNotFoundError(str(self._path))
        return self._state[str(self._path)]

    def read_text(self, encoding: str = "utf-8") -> str:
        """Raises FileNotFoundError."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: str = "r", encoding: str = "utf-8") -> IO[Any]:
        """For reading. Raises FileNotFoundError, PermissionError."""
        if set(mode) - set("rbt"):
            raise PermissionError("saved files are read only")
        return BytesIO(self.read_bytes()) if "b" in mode else StringIO(self.read_text(encoding))

    def iterdir(self) -> Iterator["Folder"]:
        """What lies directly in it."""
        inside = (PurePosixPath(name) for name in self._state)
        beneath = (p.relative_to(self._path).parts for p in inside if p.is_relative_to(self._path))
        return (self / name for name in sorted({parts[0] for parts in beneath if parts}))

    def is_file(self) -> bool:
        return str(self._path) in self._state

    def is_dir(self) -> bool:
        return any(True for _ in self.iterdir())

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()


def declared(estimator: Any, source: Path) -> tuple[Declared, dict[str, str]]:
    """See `flow.job.Flavors`. Raises Missing, Invalid."""
    sources = _sources(source)
    return Declared(estimator=estimator, entry=source.name, sources=sources), sources


def export(made: Declared, rows: Matrix, task: Task, classes: int, folder: Path) -> tuple[Flavor, Proof, str]:
    """Write source and state into `folder`, open them as a replica does, and hold the answers to the
    estimator's own. Raises Invalid when they differ, or when the user's code fails."""
    expected = answers(made, rows, task, classes)
    kept = Bundle(entry=made.entry, sources=made.sources, state=_state(made.estimator, made.entry))
    (folder / FILE).write_bytes(MAGIC + msgspec.msgpack.encode(kept, order="deterministic"))
    environment.record(folder, _libraries(made.sources))
    proof = compare(expected, scorer(folder, "python", task, classes)(rows), task)
    if not proof.exact:
        raise Invalid(f"what {kept.entry} loads does not answer as what train() returned: {proof}",
                      hint="save(folder) must write all that load(folder) needs")  # fmt: skip
    return "python", proof, f"train.serve names {kept.entry}"


def answers(made: Declared, rows: Matrix, task: Task, classes: int) -> Matrix:
    """What the estimator itself says, as scores. Raises Invalid."""
    with _user("the model that train() returned"):
        found = _asked(made.estimator, task)(rows)
    return scores(found, task, classes, "the model that train() returned")


def bundle(files: Files) -> Bundle:
    """Read the file; nothing in it is run. Raises Missing, Corrupt."""
    data = read(files, FILE)
    check_form(FILE, data[:16])
    try:
        return msgspec.msgpack.decode(memoryview(data)[len(MAGIC) :], type=Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{FILE} cannot be read: {error}", hint="package the model again") from None


def scorer(
    files: Files, flavor: Flavor, task: Task, classes: int, *, threads: int = 1
) -> Callable[[Matrix], Matrix]:
    """Run the package's own source and let it load: in a walled-in replica, or in a job of whoever
    trained it. Raises Missing, Corrupt, Invalid (the source fails)."""
    kept = bundle(files)
    finder = _Finder(kept.sources)
    sys.meta_path.insert(0, finder)
    name = kept.entry.removesuffix(".py")
    with _user(kept.entry):
        module = finder.module(name)
        loaded = getattr(module, "load", None)
        if not callable(loaded):
            raise Invalid(f"{kept.entry} defines no function `load`",
                          hint="write `def load(folder):` that returns what answers")  # fmt: skip
        ask = _asked(loaded(Folder(kept.state)), task)
    return lambda rows: scores(ask(rows), task, classes, kept.entry)


def remember(estimator: Any, folder: Path) -> None:
    """Raises Invalid: what load() returns is not what train() can go on from."""
    raise Invalid("train.warm_start does not go with train.serve", hint="set train.warm_start to false")


def recall(folder: Path) -> Any:
    """Raises Missing."""
    raise Missing("no state to begin with", hint="set train.warm_start to false")


class _Finder(MetaPathFinder, InspectLoader):
    """Imports the sources of a package from memory, before anything of the same name."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = sources

    def module(self, name: str) -> ModuleType:
        """The source `name`, run anew with all it imports from here: an evaluation opens two models."""
        for stale in [n for n in sys.modules if self._path(n)]:
            del sys.modules[stale]
        spec = self.find_spec(name)
        assert spec is not None, "a bundle holds its entry"
        sys.modules[name] = module = module_from_spec(spec)
        self.exec_module(module)
        return module

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if self._path(fullname) else None

    def is_package(self, fullname: str) -> bool:
        return self._path(fullname).endswith("/__init__.py")

    def get_source(self, fullname: str) -> str:
        return self._sources[self._path(fullname)]

    def _path(self, fullname: str) -> str:
        stem = fullname.replace(".", "/")
        return next((p for p in (f"{stem}/__init__.py", f"{stem}.py") if p in self._sources), "")


@contextmanager
def _user(what: str) -> Iterator[None]:
    """The border to the user's code: what it raises is told in its own words."""
    try:
        yield
    except (Invalid, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise Invalid(f"{what} fails: {type(error).__name__}: {error}",
                      hint="a replica reads no file, starts no process and reaches no network") from error  # fmt: skip


def _asked(model: Any, task: Task) -> Callable[[Matrix], Any]:
    """How a model is asked: its probabilities, itself, or what it predicts. Raises Invalid."""
    ways = ["__call__", "predict"] if task == "regression" else ["predict_proba", "__call__", "predict"]
    for way in ways:
        if callable(getattr(model, way, None)):
            return getattr(model, way)  # type: ignore[no-any-return]
    raise Invalid(f"{type(model).__name__} cannot be asked", hint="give it __call__(X), predict_proba(X) or predict(X)")


def _sources(entry: Path) -> dict[str, str]:
    """The text of a source and of all that it imports from beside it. Raises Invalid, Missing."""
    found: dict[str, str] = {}
    todo = [entry]
    while todo:
        path = todo.pop()
        name = path.relative_to(entry.parent).as_posix()
        if name in found or not path.is_file():
            continue
        try:
            found[name] = path.read_text(encoding="utf-8")
            modules = _imports(ast.parse(found[name]), path.relative_to(entry.parent).parent)
        except (SyntaxError, UnicodeDecodeError) as error:
            raise Invalid(f"{name} is not Python: {error}", hint="put it right and train again") from None
        for stem in (entry.parent.joinpath(*parts) for parts in modules):
            todo += [stem.with_suffix(".py"), stem / "__init__.py"]
    if entry.name not in found:
        raise Missing(f"train.serve: there is no file {entry.name}", pointer="/train/serve",
                      hint="write one with `def load(folder)` that returns what answers")  # fmt: skip
    return found


def _imports(tree: ast.AST, beside: Path) -> Iterator[tuple[str, ...]]:
    """The modules a source may import, and the packages they lie in, as parts of a path."""
    names: list[tuple[str, ...]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [tuple(a.name.split(".")) for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = beside.parts[: len(beside.parts) + 1 - node.level] if node.level else ()
            stem = (*above, *(node.module.split(".") if node.module else ()))
            names += [stem, *((*stem, a.name) for a in node.names)]
    return (name[: i + 1] for name in names for i in range(len(name)))


def _libraries(sources: Mapping[str, str]) -> set[str]:
    """The installed distributions that the sources import, and numpy."""
    tops = {name[0] for text in sources.values() for name in _imports(ast.parse(text), Path())}
    known = packages_distributions()
    return {"numpy"} | {d for top in tops - {"fairlead"} for d in known.get(top, ())}


def _state(estimator: Any, entry: str) -> dict[str, bytes]:
    """What `save(folder)` of the estimator writes. Raises Invalid."""
    if not callable(getattr(estimator, "save", None)):
        raise Invalid(f"train() returned {type(estimator).__name__}, which has no save(folder)",
                      hint=f"give it one that writes what load(folder) in {entry} reads")  # fmt: skip
    with TemporaryDirectory(prefix="fairlead-") as name:
        with _user("save(folder)"):
            estimator.save(Path(name))
        files = [p for p in sorted(Path(name).rglob("*")) if not p.is_dir()]
        size = sum(p.lstat().st_size for p in files)
        if size > MOST or any(p.is_symlink() or not p.is_file() for p in files):
            raise Invalid(f"save(folder) wrote {size:,} bytes, or something that is no file",
                          hint=f"plain files of at most {MOST >> 30} GiB together")  # fmt: skip
        return {p.relative_to(name).as_posix(): p.read_bytes() for p in files}
