"""`python -m examples.electricity`: retraining on two real streams, and the table of README.md beside this.

Electricity prices (fetched once, see make_data.py) and the flights of examples/flights, walked through
day by day: a frozen model, one that is trained again every week, and the loop as fairlead.yaml says.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from examples.electricity import make_data
from examples.electricity.prequential import DAY, Fit, Rule, Stream, Walk, walk
from fairlead.core.artifact import FeaturesSpec
from fairlead.flavors.table import fit_encoding, transform
from fairlead.flow import data
from fairlead.project import Project

HERE = Path(__file__).parent
FLIGHTS = HERE.parent / "flights"
MARKS = "<!-- figures -->\n", "<!-- end of figures -->\n"
WEEK = 7


def boosting(seed: int = 0) -> Fit:
    """The learner of train.py, on arrays."""

    def fit(X: NDArray[np.float32], y: NDArray[np.int64]) -> Any:
        return HistGradientBoostingClassifier(random_state=seed, max_iter=60, max_leaf_nodes=15).fit(X, y)

    return fit


def electricity() -> Stream:
    """45,312 half hours; the truths of a day are known at its end."""
    file = HERE / "data" / "electricity.parquet"
    if not file.exists():
        make_data.main([])
    rows = pl.read_parquet(file)
    return streamed(rows, rows.select(make_data.COLUMNS).to_numpy().astype(np.float32), "up", "asked_at", "known_at")


def flights() -> Stream:
    """327,346 flights with their features as of the moment they were asked about."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("fairlead.yaml", "train.py"):
            shutil.copy(FLIGHTS / name, folder)
        (Path(folder) / "data").symlink_to(FLIGHTS / "data")
        with Project.open(Path(folder)) as project:
            made = project.materialize(project.snapshot()[0])
            assert isinstance(made.spec, FeaturesSpec)
            rows = data.read(made.spec, project.blobs).drop_nulls("late").sort("decided_at")
            hidden = {"late", "decided_at", "landed_at", "tailnum", "flight"}
            schema = made.spec.schema
            columns = tuple(c for c in schema.columns if c.name not in hidden)
    inputs = type(schema)(columns=columns)
    early = rows.head(rows.height // 3)
    matrix = transform(rows, fit_encoding(early, inputs, unseen="other"))
    return streamed(rows, matrix, "late", "decided_at", "landed_at")


def streamed(rows: pl.DataFrame, matrix: NDArray[np.float32], target: str, asked: str, known: str) -> Stream:
    """A table as a stream whose first midnight is 0."""
    at, told = (rows[c].dt.epoch("us").to_numpy() / 1e6 for c in (asked, known))
    midnight = at[0] // DAY * DAY
    return Stream(matrix, rows[target].cast(pl.Int64).to_numpy(), at - midnight, told - midnight)


def compared(stream: Stream, start: int, loop: Rule) -> dict[str, Walk]:
    """The loop beside a model that is never, and one that is always, trained again."""
    week = Rule(window=loop.window, every=WEEK, gated=False, hold=loop.hold)
    rules = {
        "frozen": Rule(window=start, hold=0.0),
        "weekly": week,
        "weekly, no rows held out": Rule(window=loop.window, every=WEEK, gated=False, hold=0.0),
        "loop": loop,
    }
    return {name: walk(stream, start, rule, boosting()) for name, rule in rules.items()}


def lines(title: str, walks: dict[str, Walk]) -> list[str]:
    """Rows of the table for one stream."""
    frozen = walks["frozen"].accuracy
    return [f"| {title} | {name} | {w.accuracy:.2%} | {100 * (w.accuracy - frozen):+.2f} | {w.retrainings} | {w.won} |"
            for name, w in walks.items()]  # fmt: skip


def main() -> int:
    """Walk both streams and write the table; 1 when the loop does not win as promised."""
    market, kept = electricity(), True
    table = ["| stream | policy | accuracy | against frozen, points | retrainings | won |", "|---|---|---|---|---|---|"]
    runs = [(f"electricity, {window} days", market, 56, Rule(window=window, every=14, cost=5, cooldown=5))
            for window in (28, 56, 112)]  # fmt: skip
    runs.append(("flights, 365 days", flights(), 120, Rule(window=365, every=28, cost=300, cooldown=7)))
    for title, stream, start, rule in runs:
        walks = compared(stream, start, rule)
        loop, weekly = walks["loop"], walks["weekly"]
        kept &= loop.accuracy > walks["frozen"].accuracy
        kept &= loop.accuracy >= weekly.accuracy and loop.retrainings < weekly.retrainings
        table += lines(title, walks)
        sys.stdout.write("\n".join(lines(title, walks)) + "\n")
        sys.stdout.flush()
    page = HERE / "README.md"
    head, _, rest = page.read_text().partition(MARKS[0])
    page.write_text(head + MARKS[0] + "\n".join(table) + "\n" + MARKS[1] + rest.partition(MARKS[1])[2])
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
