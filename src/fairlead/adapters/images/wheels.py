"""Wheels: the dependencies of an image, chosen by pip for another machine and laid out without running any of it."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence, Set
from hashlib import file_digest, sha256
from importlib.metadata import requires
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from fairlead.errors import Invalid, Unavailable
from fairlead.ports import Entry

__all__ = ["RULES", "content", "download", "lock", "needs"]

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
GLIBC = range(28, 16, -1)
"""Minor versions of glibc 2 whose wheels run in the image."""
COMMAND_LINE = ("pyyaml", "rich", "typer")
IDLE = frozenset({"tests", "f2py", "include", "distutils"})
"""Folders of wheels that nothing imports at run time; below, kinds of files, and more folders."""
ASKED = ("scipy-", "f2py")
"""A wheel that does import one of them: it looks at every name of numpy."""
SOURCES = (".pyi", ".pyx", ".pxd", ".c", ".cpp", ".h", ".hpp", ".a")
UNUSED = ("onnxruntime/tools/", "onnxruntime/transformers/", "onnxruntime/quantization/",
          "onnxruntime/datasets/")  # fmt: skip
RULES = sha256(repr((sorted(IDLE), ASKED, SOURCES, UNUSED)).encode()).hexdigest()
"""Changes with what is left out, so that no layer of other rules is taken for this one."""


def needs(extra: str, *names: str) -> list[str]:
    """What Fairlead requires to serve: with an extra, and those of other extras named; not what only
    its command line does."""
    found = []
    for line in requires("fairlead") or ():
        requirement, _, marker = line.partition(";")
        inside = not marker and not requirement.startswith(COMMAND_LINE)
        if inside or f"'{extra}'" in marker.replace('"', "'") or requirement.startswith(names or ("\0",)):
            found.append(requirement.strip())
    return sorted(set(found))


def download(
    wanted: Sequence[str], known: Sequence[str], *, python: str, architecture: str, cache: Path
) -> list[Path]:
    """Wheels of what is `wanted` (requirements) in the versions `known` (``name==version``).

    Nothing is built and nothing is run; what was chosen once is not asked for again. Raises Invalid
    when pip finds no such wheels, Unavailable when there is no pip.
    """
    if architecture not in MACHINES:
        raise Invalid(f"no wheels for {architecture!r}", hint=f"one of {', '.join(MACHINES)}")
    machine = MACHINES[architecture]
    key = sha256("\n".join([*wanted, "--", *known, python, machine]).encode()).hexdigest()
    target = cache / key
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=cache) as folder:
            draft, pinned = Path(folder) / "wheels", Path(folder) / "known.txt"
            pinned.write_text("\n".join(known))
            tags = [f"manylinux_2_{n}_{machine}" for n in GLIBC] + [f"manylinux2014_{machine}"]
            _pip("download", "--only-binary=:all:", f"--dest={draft}", f"--constraint={pinned}",
                 f"--python-version={python}", "--implementation=cp",
                 *(f"--platform={t}" for t in tags), *wanted)  # fmt: skip
            draft.rename(target)
    return sorted(target.glob("*.whl"))


def lock(wheels: Sequence[Path]) -> dict[str, str]:
    """File name -> SHA-256 (hex): with `RULES` what the layer of these wheels follows from."""
    found = {}
    for path in sorted(wheels):
        with path.open("rb") as file:
            found[path.name] = file_digest(file, "sha256").hexdigest()
    return found


def content(wheels: Sequence[Path], root: str) -> Iterator[Entry]:
    """The files of wheels under the folder `root`: what Python imports, without scripts and tests.

    Raises Invalid for a file that would lie outside.
    """
    asker, folder = ASKED
    idle = IDLE - {folder} if any(w.name.startswith(asker) for w in wheels) else IDLE
    for wheel in sorted(wheels):
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                name = _place(info.filename, idle)
                if name and not info.is_dir():
                    yield f"{root}/{name}", archive.read(info)


def _place(name: str, idle: Set[str] = IDLE) -> str:
    """Where a file of a wheel goes; "" for nowhere, as in folders that are `idle`."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise Invalid(f"a wheel holds {name[:80]!r}", hint="get the wheel again")
    if path.parts[0].endswith(".data"):
        if len(path.parts) < 3 or path.parts[1] not in ("purelib", "platlib"):
            return ""
        path = PurePosixPath(*path.parts[2:])
    if idle & set(path.parts[:-1]) or path.suffix in SOURCES or str(path).startswith(UNUSED):
        return ""
    return str(path)


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "No module named pip" in done.stderr:
        raise Unavailable("there is no pip here", hint=f"{sys.executable} -m ensurepip")
    if done.returncode:
        raise Invalid(f"pip finds no wheels for the image: {done.stderr.strip()[-500:]}",
                      hint="`--dockerfile` writes what builds with a compiler")  # fmt: skip
