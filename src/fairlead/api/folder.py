"""The folder of a project: where a command finds it when it is not told."""

from pathlib import Path

from fairlead.errors import Missing
from fairlead.settings import MANIFEST

__all__ = ["find"]



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
