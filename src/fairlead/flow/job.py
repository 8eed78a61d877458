"""Jobs: work that runs in a process of its own, handed over as a folder and answered in it."""

import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from fairlead.core.artifact import Flavor, Task
from fairlead.core.encoding import Encoding
from fairlead.core.proof import Proof
from fairlead.core.ref import canonical
from fairlead.core.schema import Schema
from fairlead.core.shapley import Explained
from fairlead.errors import FairleadError, Invalid
from fairlead.ports import Compute

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Explains", "Flavors", "Matrix", "Scorer", "answer", "submit", "workspace"]

JOB, RESULT, FAILURE = "job.json", "result.json", "failure.json"
SMALL = 2_000_000
"""Below this a second thread costs boosting more at its barriers than it brings (measured)."""
FRAMES = 12
"""Lines of a traceback that an error carries."""

Matrix = NDArray[np.float32]
R = TypeVar("R", bound=Struct)


class Scorer(Protocol):
    """[rows, width] float32 -> scores [rows, k] float32."""

    def __call__(self, rows: Matrix, /) -> Matrix: ...


class Explains(Protocol):
    """Explains encoded rows; `players`: the columns that contribute (see `flavors.explain`)."""

    players: tuple[str, ...]
    method: str
    space: str

    def __call__(self, row: Matrix, /) -> Explained: ...

    def answers(self, rows: Matrix, /) -> NDArray[np.float64]: ...


class Flavors(Protocol):
    """What jobs need to know of frameworks; `fairlead.flavors.frameworks` is one (as a module)."""

    def fit_encoding(
        self, frame: "pl.DataFrame", schema: Schema, *, unseen: Literal["other", "error"] = "other"
    ) -> Encoding:
        """Choose how the columns become numbers, from the training rows."""

    def transform(self, frame: "pl.DataFrame", encoding: Encoding) -> Matrix:
        """The matrix [rows, encoding.width]."""

    def seed(self, number: int, source: str) -> None:
        """Have all that the code `source` learns with draw and compute alike in every run."""

    def export(
        self, estimator: Any, rows: Matrix, task: Task, classes: int, folder: Path
    ) -> tuple[Flavor, Proof, str]:
        """Write the model's files; the flavor, its proof on `rows`, why it is not ONNX ("")."""

    def declared(self, estimator: Any, source: Path) -> tuple[Any, dict[str, str]]:
        """An estimator that only its own source opens, for `export` and `answers`; and the text of
        the source and of what it imports from beside it, by path. Raises Missing, Invalid."""

    def remember(self, estimator: Any, folder: Path) -> None:
        """Write the whole estimator, for a training that begins with it. Raises Invalid."""

    def recall(self, folder: Path) -> Any:
        """The estimator that `remember` wrote. Raises Missing, Corrupt."""

    def answers(self, estimator: Any, rows: Matrix, task: Task, classes: int) -> Matrix:
        """What the estimator itself says of `rows`, as scores."""

    def scorer(
        self, files: Path | Mapping[str, bytes], flavor: Flavor, task: Task, classes: int, /
    ) -> Scorer:
        """Open the files that `export` wrote: their folder, or their bytes by name."""

    def demand(self, folder: Path, /) -> None:
        """Raises Invalid when the libraries here are not those the model was made with."""

    def explainer(
        self, folder: Path, scorer: Scorer, encoding: Encoding, background: Matrix, output: int
    ) -> "Explains":
        """What explains one column of the scores, beside the mean answer of a background."""


class Failure(Struct, frozen=True, kw_only=True):
    """Why a job failed, as its caller will raise it."""

    message: str
    hint: str = ""


@contextmanager
def workspace(jobs: Path) -> Iterator[Path]:
    """A private folder under `jobs`, removed afterwards whatever happens."""
    jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(mkdtemp(prefix="job-", dir=jobs)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def submit(
    name: str, job: Struct | None, folder: Path, compute: Compute, result: type[R],
    arguments: Sequence[str] = (), *, cells: int | None = None,
) -> R:  # fmt: skip
    """Run the process `name` on `folder` (its first argument) and read what it answers.

    `cells`: values of the table it learns from, if any: small ones are learnt in one thread.

    Raises Invalid with the job's own words when it fails, or what `Compute.run` raises.
    """
    if job is not None:
        (folder / JOB).write_bytes(canonical(job))
    try:
        compute.run([name, str(folder), *arguments], folder, _threads(cells))
    except Invalid:
        if not (folder / FAILURE).exists():
            raise
        failure = msgspec.json.decode((folder / FAILURE).read_bytes(), type=Failure)
        raise Invalid(failure.message, hint=failure.hint) from None
    return msgspec.json.decode((folder / RESULT).read_bytes(), type=result)


def _threads(cells: int | None) -> dict[str, str]:
    return {"OMP_NUM_THREADS": "1"} if cells is not None and cells < SMALL else {}


def answer(folder: Path, work: Callable[[bytes], Struct]) -> int:
    """The border of a job process: do the work on job.json, leave result.json or failure.json.

    The exit status: 0, or 1 for a failure.
    """
    try:
        done = work((folder / JOB).read_bytes() if (folder / JOB).exists() else b"")
    except FairleadError as error:
        failure = Failure(message=str(error), hint=error.hint)
    except MemoryError:
        failure = Failure(message="the job ran out of memory",
                          hint="use fewer rows (train on a window) or fewer columns")  # fmt: skip
    except Exception:  # noqa: BLE001  the border of the job process
        lines = traceback.format_exc().strip().splitlines()[-FRAMES:]
        failure = Failure(message="\n".join(lines), hint="report this with the lines above")
    else:
        (folder / RESULT).write_bytes(canonical(done))
        return 0
    (folder / FAILURE).write_bytes(canonical(failure))
    return 1
