"""The walk over a manifest's node tree: every value against its type, every problem with its line."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct, inspect
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fairlead.adapters.manifest.fields import FIELDS, Field
from fairlead.core.duration import seconds
from fairlead.errors import Invalid

__all__ = ["Problem", "Rule", "Walk", "nearest"]

BAD: Any = object()
"""Stands for a value that had a problem: nothing above it is built."""

_SCALARS = {"tag:yaml.org,2002:" + name: name for name in
            ("str", "int", "float", "bool", "null", "timestamp", "binary", "merge", "value")}  # fmt: skip
_SAID = {inspect.StrType: "text", inspect.IntType: "a whole number", inspect.FloatType: "a number",
         inspect.BoolType: "true or false", inspect.NoneType: "nothing"}  # fmt: skip


class Problem(Struct, frozen=True, order=True):
    """Where (line from 1, path such as ``release.steps[1].share``) and what is wrong."""

    line: int
    path: str
    text: str


Rule = Callable[[Any, frozenset[str]], Iterator[tuple[str, str]]]
"""(value, keys that were written) -> (key or "" for the whole, what is wrong)."""


class Walk:
    """One pass over one document; `problems` fills up as it goes."""

    def __init__(self, rules: Mapping[type[Struct], Rule]) -> None:
        self.problems: list[Problem] = []
        self._rules = rules

    def struct(self, node: Node, cls: type[Struct], path: str = "") -> Any:
        """An instance of `cls`, or BAD after noting every problem inside `node`."""
        if not isinstance(node, MappingNode):
            return self._bad(node, path, f"expected keys and values, got {shown(node)}")
        known = {f.name: f for f in msgspec.structs.fields(cls)}
        types = {f.name: f.type for f in inspect.type_info(cls).fields}  # type: ignore[attr-defined]
        given = self._pairs(node, path)
        missing = {n for n, f in known.items() if f.required or _needed(FIELDS[cls][n], given)} - given.keys()
        values: dict[str, Any] = {}
        for key, (key_node, value_node) in given.items():
            here = f"{path}.{key}" if path else key
            if key not in known:
                guess = nearest(key, [*missing, *known])
                missing.discard(guess)
                listed = f"; keys here: {', '.join(known)}"
                self._bad(key_node, here, f"unknown key{meant(guess) or listed}")
                values[key] = BAD
                continue
            values[key] = self.value(value_node, types[key], here, FIELDS[cls][key])
        for name in sorted(missing, key=list(known).index):
            self._bad(node, f"{path}.{name}" if path else name,
                      f"is missing: {_lower(FIELDS[cls][name].meaning)}")  # fmt: skip
        if missing or any(v is BAD for v in values.values()):
            return BAD
        return self._ruled(node, cls, path, cls(**values), given)

    def value(self, node: Node, kind: inspect.Type, path: str, field: Field) -> Any:
        """The value of `node` read as `kind` within the limits of `field`, or BAD."""
        match kind:
            case inspect.StructType():
                return self.struct(node, kind.cls, path)
            case inspect.DictType():
                return self._dict(node, kind, path, field)
            case inspect.VarTupleType():
                return self._list(node, kind, path, field)
            case inspect.LiteralType():
                return self._choice(node, kind, path)
            case inspect.UnionType(types=(inspect.StructType() as section, inspect.NoneType())):
                return self.struct(node, section.cls, path)
            case _:
                return self._scalar(node, kind, path, field)

    def _ruled(self, node: MappingNode, cls: type[Struct], path: str, value: Struct,
               given: Mapping[str, tuple[Node, Node]]) -> Any:  # fmt: skip
        rule = self._rules.get(cls)
        broken = False
        for key, text in rule(value, frozenset(given)) if rule else ():
            at = given[key][1] if key in given else node
            here = ".".join(part for part in (path, key) if part)
            self._bad(at, here, text)
            broken = True
        return BAD if broken else value

    def _pairs(self, node: MappingNode, path: str) -> dict[str, tuple[Node, Node]]:
        found: dict[str, tuple[Node, Node]] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._bad(key_node, path, f"a key is text, got {shown(key_node)}")
            elif key_node.value in found:
                first = found[key_node.value][0].start_mark.line + 1
                here = f"{path}.{key_node.value}" if path else key_node.value
                self._bad(key_node, here, f"is written twice, first on line {first}")
            else:
                found[key_node.value] = (key_node, value_node)
        return found

    def _dict(self, node: Node, kind: inspect.DictType, path: str, field: Field) -> Any:
        if not isinstance(node, MappingNode):
            return self._bad(node, path, f"expected names and values, got {shown(node)}")
        items = {key: self.value(value, kind.value_type, f"{path}.{key}", field)
                 for key, (_, value) in self._pairs(node, path).items()}  # fmt: skip
        return BAD if any(v is BAD for v in items.values()) else items

    def _list(self, node: Node, kind: inspect.VarTupleType, path: str, field: Field) -> Any:
        if not isinstance(node, SequenceNode):
            example = f"write [{node.value}]" if isinstance(node, ScalarNode) else "write [a, b]"
            return self._bad(node, path, f"expected a list, got {shown(node)}: {example}")
        items = tuple(self.value(item, kind.item_type, f"{path}[{i}]", field)
                      for i, item in enumerate(node.value))  # fmt: skip
        return BAD if any(v is BAD for v in items) else items

    def _choice(self, node: Node, kind: inspect.LiteralType, path: str) -> Any:
        if isinstance(node, ScalarNode) and node.value in kind.values:
            return node.value
        choices = [str(v) for v in kind.values]
        guess = nearest(node.value, choices) if isinstance(node, ScalarNode) else ""
        return self._bad(node, path, f"{shown(node)} is not one of {', '.join(choices)}{meant(guess)}")  # fmt: skip

    def _scalar(self, node: Node, kind: inspect.Type, path: str, field: Field) -> Any:
        kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
        value = plain(node)
        for each in kinds:
            if (read := _as(value, each)) is not BAD:
                return self._limited(node, path, field, read)
        if field.is_duration:
            return self._bad(node, path, f"expected a duration such as 90s, 10m, 3h or 2d, got {shown(node)}")  # fmt: skip
        kinds_said = [_SAID[type(k)] for k in kinds if not isinstance(k, inspect.NoneType)]
        said = "a single value" if len(kinds_said) > 2 else " or ".join(kinds_said)
        quotes = isinstance(node, ScalarNode) and any(isinstance(k, inspect.StrType) for k in kinds)
        more = f': put it in quotes, "{node.value}"' if quotes and node.value else ""
        return self._bad(node, path, f"expected {said}, got {shown(node)}{more}")

    def _limited(self, node: Node, path: str, field: Field, value: Any) -> Any:
        if field.is_duration:
            return self._duration(node, path, field, value)
        if isinstance(value, int | float) and not isinstance(value, bool) and not field.holds(value):  # fmt: skip
            return self._bad(node, path, f"{value:g} is not {field.range}")
        if field.pattern and isinstance(value, str) and not re.match(field.pattern, value):
            return self._bad(node, path, f"{value!r} is not {field.says}")
        return value

    def _duration(self, node: Node, path: str, field: Field, value: str) -> Any:
        if not value and field.optional:
            return value
        try:
            length = seconds(value)
        except Invalid as error:
            return self._bad(node, path, f"{error}; {error.hint}".removesuffix("; "))
        if not field.holds(length):
            return self._bad(node, path, f"{value!r} is too short: a duration above 0 is needed")
        return value

    def _bad(self, node: Node, path: str, text: str) -> Any:
        self.problems.append(Problem(node.start_mark.line + 1, path, text))
        return BAD


def _needed(field: Field, given: Collection[str]) -> bool:
    return bool(field.unless) and field.unless not in given


def plain(node: Node) -> Any:
    """The Python value a scalar stands for; BAD for what is no text, number, boolean or nothing.

    YAML 1.1 reads ``1e-3`` as text; people mean the number, so an unquoted one is a number.
    """
    if not isinstance(node, ScalarNode):
        return BAD
    match _SCALARS.get(node.tag):
        case "str" if node.style is None and re.fullmatch(r"[-+]?\d+[eE][-+]?\d+", node.value):
            return float(node.value)
        case "str":
            return node.value
        case "bool":
            return node.value.lower() in ("yes", "true", "on")
        case "int" if re.fullmatch(r"[-+]?(0|[1-9][0-9_]{0,17})", node.value):
            return int(node.value.replace("_", ""))
        case "float" if ":" not in node.value:
            return _float(node.value.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))  # fmt: skip
        case "null":
            return None
        case _:
            return BAD


def shown(node: Node) -> str:
    """What was seen, short enough for one line."""
    if isinstance(node, ScalarNode):
        if node.tag not in _SCALARS:
            return f"the tag {node.tag!r}"
        text = node.value if len(node.value) <= 40 else f"{node.value[:39]}…"
        return repr(text) if text or node.style else "nothing"
    return "a list" if isinstance(node, SequenceNode) else "keys and values"


def nearest(word: str, known: list[str]) -> str:
    """The known word that was probably meant, or ""."""
    lower = {k.lower(): k for k in reversed(known)}
    close = get_close_matches(word.lower().replace("-", "_"), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else ""


def meant(guess: str) -> str:
    """``; did you mean "target"?`` or nothing."""
    return f'; did you mean "{guess}"?' if guess else ""


def _float(text: str) -> Any:
    value = float(text.lower())
    return value if isfinite(value) else BAD


def _as(value: Any, kind: inspect.Type) -> Any:
    match kind:
        case inspect.StrType():
            return value if isinstance(value, str) else BAD
        case inspect.BoolType():
            return value if isinstance(value, bool) else BAD
        case inspect.IntType():
            return value if isinstance(value, int) and not isinstance(value, bool) else BAD
        case inspect.FloatType():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return float(value) if number else BAD
        case inspect.NoneType():
            return None if value is None else BAD
        case _:
            return BAD


def _lower(text: str) -> str:
    return text[0].lower() + text[1:].rstrip(".")
