"""Jobs: the processes in which models are trained, measured and proven, away from everything else."""

from collections.abc import Sequence
from pathlib import Path

from fairlead.errors import Invalid
from fairlead.flavors import sklearn
from fairlead.flow.explain import run_explain
from fairlead.flow.package import run_prove
from fairlead.flow.train import run_job

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """``job FOLDER``, ``explain FOLDER`` or ``prove FOLDER PACKAGE``; the exit status."""
    match argv:
        case ["job", folder]:
            return run_job(Path(folder), sklearn)
        case ["explain", folder]:
            return run_explain(Path(folder), sklearn)
        case ["prove", folder, package]:
            return run_prove(Path(folder), Path(package), sklearn)
    raise Invalid(f"no such job: {' '.join(argv)}", hint="job FOLDER, explain FOLDER, prove FOLDER PACKAGE")
