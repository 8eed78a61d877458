"""Jobs: the processes in which models are trained, measured and proven, away from everything else."""

from collections.abc import Sequence
from pathlib import Path

from fairlead.errors import Invalid
from fairlead.flavors import frameworks
from fairlead.flow.explain import run_explain
from fairlead.flow.package import run_prove
from fairlead.flow.train import run_job
from fairlead.serve.apart import apart

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """``job FOLDER``, ``explain FOLDER``, ``prove FOLDER PACKAGE`` (from elsewhere: ``apart``); the exit status."""
    match argv:
        case ["job", folder]:
            return run_job(Path(folder), frameworks)
        case ["explain", folder]:
            return run_explain(Path(folder), frameworks)
        case ["prove", folder, package]:
            return run_prove(Path(folder), Path(package), frameworks)
        case ["prove", folder, package, "apart"]:
            state = Path(folder).absolute().parents[1]
            return run_prove(Path(folder), Path(package), frameworks, lambda work: apart(work, state))
    raise Invalid(f"no such job: {' '.join(argv)}", hint="job FOLDER, explain FOLDER, prove FOLDER PACKAGE")
