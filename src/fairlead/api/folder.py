"""The folder of a project: where a command finds it when it is not told."""

from pathlib import Path

import fairlead
from fairlead.errors import Missing
from fairlead.settings import MANIFEST

__all__ = ["find", "repository", "shipped"]


def find(given: Path | None) -> Path:
    """The folder of the project: `given`, or the nearest one upwards from here. Raises Missing."""
    if given is not None:
        folder = (given.parent if given.name == MANIFEST else given).resolve()
        if (folder / MANIFEST).is_file():
            return folder
        raise Missing(f"no {MANIFEST} in {folder}", hint="--project names the folder that holds it")
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MANIFEST).is_file():
            return folder
    raise Missing(f"no {MANIFEST} here or in a folder above {here}",
                  hint="start with `fairlead init --from TABLE --target COLUMN`, or name one with --project")  # fmt: skip


def repository(folder: Path) -> Path:
    """The top of the git work tree around `folder`; `folder` itself where there is none."""
    return next((p for p in (folder, *folder.parents) if (p / ".git").exists()), folder)


def shipped(example: str) -> Path:
    """A folder of examples/: inside the package, or in the checkout it is installed from. Raises Missing."""
    here = Path(fairlead.__file__).parent
    for place in (here / "examples" / example, here.parents[1] / "examples" / example):
        if place.is_dir():
            return place
    raise Missing(f"the example {example} is not here", hint="install the package, or work in a checkout")
