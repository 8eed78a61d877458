"""`python -m fairlead`: hands over to the command line, or to one of Fairlead's own processes."""

import sys
from importlib import import_module

__all__ = ["main"]

PROCESSES = {
    "alone": "fairlead.dataplane",
    "gateway": "fairlead.dataplane",
    "replica": "fairlead.dataplane",
    "job": "fairlead.jobs",
    "explain": "fairlead.jobs",
    "prove": "fairlead.jobs",
    "controller": "fairlead.controller",
    "retrain": "fairlead.controller",
    "explanations": "fairlead.controller",
}
"""The first argument names a process. Each loads only what it needs: a replica holds no database."""


def main() -> int:
    """Run the process or the command that the arguments name; return the exit status."""
    arguments = sys.argv[1:]
    process = PROCESSES.get(arguments[0]) if arguments else None
    module = import_module(process or "fairlead.api.cli")
    status: int = module.main(arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
