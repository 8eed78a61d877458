"""Fairlead with a fault built in: `python -m tests.faults.planted BUG PROCESS ...`.

BUG is the dotted path of a function, for example `tests.faults.bugs.naive_drain`. It is called with
the name of the process ("serve", "gateway", "replica", "controller", ...) before the real entry
runs, and patches what it wants. `serve ROOT CONFIG [CONTROLLER...]` hands the fault on to every
process that it starts; `command ...` does so for a command line of `fairlead`. Production code knows nothing of this.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

SOUND = "tests.faults.planted.sound"


def sound(process: str) -> None:
    """No fault: the other half of every comparison."""


def main(bug: str, process: str, *rest: str) -> int:
    module, _, name = bug.rpartition(".")
    getattr(import_module(module), name)(process)
    if process == "serve":
        return _serve(bug, *rest)
    if process == "command":
        _hand_on(bug)
        process, rest = rest[0], rest[1:]
    import fairlead.__main__ as entry

    sys.argv = [sys.argv[0], process, *rest]
    return entry.main()


def _serve(bug: str, root: str, config: str, *controller: str) -> int:
    from fairlead import dataplane

    _hand_on(bug)
    made = msgspec.json.decode(config, type=dataplane.GatewayConfig)
    return dataplane.serve(Path(root), made, controller or None)


def _hand_on(bug: str) -> None:
    """Gateways and replicas that this process starts have the fault too."""
    from fairlead import dataplane

    inner: Any = dataplane
    inner._gateway, inner._replica = _planted(bug, inner._gateway), _planted(bug, inner._replica)


def _planted(bug: str, command: Any) -> Any:
    """The same command line, by way of this module."""

    def changed(*args: Any) -> Sequence[str]:
        python, _, _, *rest = command(*args)
        return [python, "-m", "tests.faults.planted", bug, *rest]

    return changed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
