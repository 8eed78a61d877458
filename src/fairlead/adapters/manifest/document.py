"""The document behind a manifest: bytes become a YAML node tree, or one error that names the line."""

from collections.abc import Iterator
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, SequenceNode

from fairlead.errors import Invalid, Missing

__all__ = ["lines", "read"]

MAX_BYTES = 1_000_000
MAX_DEPTH = 32


def read(path: Path) -> MappingNode:
    """The top mapping of a YAML file, with positions, without constructing any object.

    Raises Missing when there is no such file; Invalid when it is too big, not UTF-8, not YAML,
    nested deeper than 32, uses anchors or aliases (a few lines of them can stand for gigabytes),
    holds several documents, or is not a mapping.
    """
    text = _text(path)
    try:
        _refuse_tricks(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _broken(path, error) from None
    except yaml.YAMLError as error:
        raise Invalid(f"{path.name} cannot be read: {error}",
                      hint="remove control characters; the file is plain text in UTF-8") from None  # fmt: skip
    if not isinstance(node, MappingNode):
        raise Invalid(f"{path.name} holds no keys, expected `service:`, `data:` and `train:`",
                      hint="write one with `fairlead init --from TABLE --target COLUMN`")  # fmt: skip
    return node


def lines(path: Path) -> dict[str, int]:
    """The line (from 1) on which each key stands, by its path: ``gate.checks[0].min``."""
    return dict(_places(read(path), ""))


def _places(node: Node, path: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            here = f"{path}.{key.value}".removeprefix(".")
            yield here, key.start_mark.line + 1
            yield from _places(value, here)
    elif isinstance(node, SequenceNode):
        for i, value in enumerate(node.value):
            yield f"{path}[{i}]", value.start_mark.line + 1
            yield from _places(value, f"{path}[{i}]")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise Missing(f"no file {path}", hint="write one with `fairlead init --from TABLE --target COLUMN`") from None  # fmt: skip
    except OSError as error:
        raise Invalid(f"cannot read {path}: {error.strerror}", hint="expected a readable file") from None  # fmt: skip
    if len(data) > MAX_BYTES:
        raise Invalid(f"{path.name} is larger than {MAX_BYTES:,} bytes",
                      hint="a manifest is a page of text: keep data out of it")  # fmt: skip
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{path.name} line {line}: byte 0x{data[error.start]:02x} is not UTF-8",
                      hint="save the file with the encoding UTF-8") from None  # fmt: skip


def _refuse_tricks(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if getattr(event, "anchor", None):
            raise Invalid(f"{path.name} line {line}: anchors and aliases (& and *) are not read here",
                          hint="write the value out where it is needed")  # fmt: skip
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise Invalid(f"{path.name} line {line}: nested deeper than {MAX_DEPTH}",
                          hint="a manifest is at most 5 levels deep")  # fmt: skip


def _broken(path: Path, error: yaml.MarkedYAMLError) -> Invalid:
    mark = error.problem_mark or error.context_mark
    where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    said = (error.problem or error.context or "not YAML").strip()
    shown = _snippet(mark) if mark else ""
    hint = "indent with spaces, and quote text that holds ': ' or '#' or starts with a symbol"
    return Invalid(f"{path.name}{where}: {said}{shown}", hint=hint)


def _snippet(mark: yaml.Mark) -> str:
    found = mark.get_snippet(indent=2)
    return f"\n{found}" if found else ""
