"""The manifest of a project: `fairlead.yaml` read into core types, with every problem told at once."""

from pathlib import Path

from fairlead.adapters.manifest.document import lines, read
from fairlead.adapters.manifest.rules import RULES
from fairlead.adapters.manifest.schema import json_schema
from fairlead.adapters.manifest.walk import Problem, Walk
from fairlead.core.manifest import Manifest
from fairlead.errors import Invalid

__all__ = ["json_schema", "lines", "load"]


def load(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises Missing when there is no such file, and one Invalid that lists every problem: line,
    path, the value seen, what is expected, and the nearest valid key.
    """
    walk = Walk(RULES)
    manifest = walk.struct(read(path), Manifest)
    if walk.problems:
        raise _refusal(path, sorted(set(walk.problems)))
    assert isinstance(manifest, Manifest)
    return manifest


def _refusal(path: Path, problems: list[Problem]) -> Invalid:
    many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    lines = len(str(problems[-1].line))
    paths = min(max(len(p.path) for p in problems), 32)
    listed = [f"  line {p.line:>{lines}}  {p.path:<{paths}}  {p.text}" for p in problems]
    return Invalid("\n".join([f"{path.name} has {many}", *listed]),
                   hint="every key is described in docs/reference/fairlead.schema.json (`fairlead schema`)",
                   pointer="/" + problems[0].path.replace(".", "/"))  # fmt: skip
