"""States: the objects of a library written as plain data and read back, without running what the data says."""

import random
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import msgspec

from fairlead.errors import Corrupt, Invalid

__all__ = ["read", "written"]

MAGIC = b"FLST1\n"
PLAIN = (bool, int, float, str)
DICTS: Mapping[str, type[dict[Any, Any]]] = {"dict": dict, "ordered": OrderedDict, "counter": Counter}
FACTORIES: Mapping[str, Callable[[], Any] | None] = {"": None, "float": float, "int": int}
SHARED, TUPLE, FROZEN, DICT = "#", "t", "f", "d"
"""How a value that is no plain one begins: the number of an object, a tuple, a frozen set, a dictionary
that nobody shares."""


def written(value: Any, library: str) -> bytes:
    """`value` and all it holds, each object once: plain values, containers, and objects of `library`
    as their fields. Raises Invalid for any other object."""
    return _Writer(library).all(value)


def read(data: bytes, library: str) -> Any:
    """What `written` wrote. Objects are made empty and then filled: none of their code runs, and
    classes are looked up within `library` only. Raises Corrupt."""
    try:
        if not data.startswith(MAGIC):
            raise ValueError(f"it begins with {data[:8]!r}")
        root, made = msgspec.msgpack.decode(data.removeprefix(MAGIC))
        return _Reader(library, made).value(root)
    except (msgspec.DecodeError, ImportError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Corrupt(f"this is no state of {library}: {error}", hint="train without train.warm_start once") from error


class _Writer:
    """Objects by number, in the order in which they were met: no recursion, however deep they lie."""

    def __init__(self, library: str) -> None:
        self._library = library
        self._numbers: dict[int, int] = {}
        self._met: list[Any] = []

    def all(self, value: Any) -> bytes:
        root, made = self.value(value), list[Any]()
        while len(made) < len(self._met):
            made.append(self._object(self._met[len(made)]))
        return MAGIC + msgspec.msgpack.encode((root, made))

    def value(self, value: Any) -> Any:
        if value is None:
            return None
        for kind in PLAIN:
            if isinstance(value, kind):
                return kind(value)  # what NumPy makes of a number, as a number
        if type(value) in (tuple, frozenset):
            return [TUPLE if type(value) is tuple else FROZEN, [self.value(v) for v in value]]
        number = self._numbers.setdefault(id(value), len(self._met))
        if number == len(self._met):
            self._met.append(value)
        return [SHARED, number]

    def _object(self, value: Any) -> Any:
        kind = type(value)
        if kind in (list, set):
            return [kind.__name__, [self.value(v) for v in (value if kind is list else sorted(value, key=repr))]]
        if kind is random.Random:
            return ["random", self.value(value.getstate())]
        if kind is defaultdict and value.default_factory in FACTORIES.values():
            factory = next(n for n, f in FACTORIES.items() if f is value.default_factory)
            return ["default", factory, self._pairs(value)]
        for name, known in DICTS.items():
            if kind is known:
                return [name, self._pairs(value)]
        if kind.__module__.partition(".")[0] != self._library:
            raise Invalid(f"a {kind.__module__}.{kind.__qualname__} is kept in it, which no safe format carries here",
                          hint="train without train.warm_start: all rows are learnt anew each time")  # fmt: skip
        origin = [kind.__module__, kind.__qualname__]
        if "__reduce__" in vars(kind):  # made by another language: it says what makes it again
            return ["made", *origin, [[DICT, sorted(self._pairs(a), key=repr)] if type(a) is dict else self.value(a)
                                    for a in value.__reduce__()[1]]]  # fmt: skip
        state = value.__getstate__()
        fields, slots = state if isinstance(state, tuple) else (state, None)
        return ["object", *origin, self._pairs(fields or {}), self._pairs(slots or {})]

    def _pairs(self, fields: Mapping[Any, Any]) -> list[Any]:
        return [[self.value(k), self.value(v)] for k, v in fields.items()]


class _Reader:
    """First everything empty, then what is made of others, then what fills them."""

    def __init__(self, library: str, made: list[Any]) -> None:
        self._library = library
        self._objects = [self._empty(*entry) for entry in made]
        for place, (kind, *entry) in enumerate(made):
            if kind == "made":
                maker = self._class(*entry[:2])
                if "__reduce__" not in vars(maker):
                    raise LookupError(f"{maker.__qualname__} is not made of arguments")
                self._objects[place] = maker(*map(self.value, entry[2]))
        for target, entry in zip(self._objects, made, strict=True):
            self._fill(target, *entry)

    def value(self, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        kind, inner = value
        if kind == SHARED:
            return self._objects[inner]
        if kind == DICT:
            return dict(self._known(inner))
        return (tuple if kind == TUPLE else frozenset)(self.value(v) for v in inner)

    def _class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] != self._library:
            raise LookupError(f"a class of {module}")
        import_module(module)
        found = getattr(sys.modules[module], name)
        if not isinstance(found, type) or found.__module__ != module:  # it may have imported it
            raise LookupError(f"{module}.{name} is no class of its own")
        return found

    def _empty(self, kind: str, *entry: Any) -> Any:
        match kind:
            case "list" | "set":
                return [] if kind == "list" else set()
            case "random":
                return random.Random()
            case "default":
                return defaultdict(FACTORIES[entry[0]])
            case "made":
                return None
            case "object":
                found = self._class(*entry[:2])
                return found.__new__(found)
        return DICTS[kind]()

    def _fill(self, target: Any, kind: str, *entry: Any) -> None:
        match kind:
            case "list":
                target += map(self.value, entry[0])
            case "random":
                target.setstate(self.value(entry[0]))
            case "object":
                target.__dict__.update(self._known(entry[2])) if entry[2] else None
                for name, value in self._known(entry[3]):
                    setattr(target, name, value)
            case "made":
                return
            case "set":
                target.update(map(self.value, entry[0]))
            case _:
                for name, value in self._known(entry[-1]):  # the update of a Counter would count pairs
                    target[name] = value

    def _known(self, pairs: list[Any]) -> list[tuple[Any, Any]]:
        return [(self.value(k), self.value(v)) for k, v in pairs]
