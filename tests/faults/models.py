"""Models that misbehave, by the name of their package; gateway, protocol and replica are the real ones."""

import ctypes
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MISBEHAVE = "tests.faults.models.misbehave"
MAGIC = 666.0
"""The distance at which a model shows what it is."""
DEATHS = Path("deaths")
"""In the run folder: a line for each replica that a model killed."""

Model = Callable[[Any], Any]
_leak: list[bytes] = []
_deaths: list[int] = []


def misbehave(process: str) -> None:
    """No bug: the opener of replicas puts a fault around the model that is named after one."""
    if process == "replica":
        from fairlead import dataplane

        inner: Any = dataplane
        opened = inner._open
        # Opened now: what runs a model writes no file.
        _deaths.append(os.open(DEATHS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        inner._open = lambda files, spec: around(spec.model.name, opened(files, spec))


def around(name: str, model: Model) -> Model:
    if name in LOADING:
        LOADING[name]()
    harm = CALLS.get(name)
    if harm is not None:
        return lambda rows: (harm(rows), model(rows))[1]
    return (lambda rows: _spoiled(rows, model(rows))) if name == "liar" else model


def _magic(rows: Any) -> bool:
    return bool((rows[:, 0] == MAGIC).any())


def _die() -> None:
    os.write(_deaths[0], f"{os.getpid()}\n".encode())
    os.abort()


def _spin() -> None:
    while True:
        pass


def _regex() -> None:
    re.match(r"(a+)+$", "a" * 64 + "b")


def _grow(size: int) -> None:
    _leak.append(b"x" * size)


def _when_magic(harm: Callable[[], Any]) -> Callable[[Any], None]:
    return lambda rows: harm() if _magic(rows) else None


def _unless_warming(harm: Callable[[], Any]) -> Callable[[Any], None]:
    return lambda rows: harm() if rows.any() else None


CALLS: dict[str, Callable[[Any], Any]] = {
    "killer": _when_magic(_die),
    "looper": _when_magic(_spin),
    "sleeper": _when_magic(lambda: ctypes.PyDLL(None).sleep(3600)),
    "matcher": _when_magic(_regex),
    "mayfly": _unless_warming(_die),
    "slow": _unless_warming(lambda: time.sleep(0.2)),
    "hung": _unless_warming(_spin),
    "leaker": _unless_warming(lambda: _grow(100_000)),
    "glutton": _unless_warming(lambda: _grow(30_000_000)),
}
LOADING: dict[str, Callable[[], Any]] = {
    "dawdler": lambda: ctypes.PyDLL(None).sleep(60),
    "stillborn": os.abort,
}
LIES: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda s: np.full_like(s, np.nan),
    "Inf": lambda s: np.full_like(s, np.inf),
    "-Inf": lambda s: np.full_like(s, -np.inf),
    "above one": lambda s: s + 2,
    "below zero": lambda s: s - 2,
    "a row too few": lambda s: s[:-1],
    "a row too many": lambda s: np.concatenate([s, s]),
    "flat": lambda s: s.ravel(),
    "transposed": lambda s: s.T[None],
    "a column too many": lambda s: np.hstack([s, s]),
    "float64": lambda s: s.astype(np.float64),
    "whole numbers": lambda s: s.astype(np.int32),
    "texts": lambda s: s.astype(str),
    "a list": lambda s: s.tolist(),
    "nothing": lambda s: None,
    "an exception": lambda s: 1 // 0,
}
"""What a liar says of a batch with a magic row; its hour is the place of the lie in this list."""


def _spoiled(rows: Any, scores: Any) -> Any:
    chosen = rows[rows[:, 0] == MAGIC, 2]
    if not len(chosen):
        return scores
    lie = list(LIES.values())[int(chosen[0])]
    spoiled = lie(scores)
    if isinstance(spoiled, np.ndarray) and spoiled.shape == scores.shape and spoiled.dtype == scores.dtype:
        return np.where(rows[:, :1] == MAGIC, spoiled, scores)
    return spoiled
