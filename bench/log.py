"""How usable ten million predictions are: `python -m bench.log [ROWS]` writes them sealed, then looks up and scans."""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.adapters.predictions.segments import MERGED, Segments
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Encoding, Number
from fairlead.core.ref import Ref
from fairlead.core.schema import Column, Schema

ROWS = 10_000_000
PACKAGE = f"package/bench@{'a' * 64}"
LOOKUPS = 200
NAMES = [f"x{i}" for i in range(10)]
SPEC = PackageSpec(
    model=Ref("model", "bench", "0" * 64), flavor="onnx", task="binary", classes=("no", "yes"), files={},
    contract=Schema(columns=tuple(Column(name=n, dtype="float") for n in NAMES)),
    encoding=Encoding(tuple(Number(n) for n in NAMES)),
)  # fmt: skip


def table(start: int, rows: int, rng: np.random.Generator) -> pl.DataFrame:
    """Rows as a sealed file holds them, ten input columns."""
    place = pl.int_range(start, start + rows, eager=True)
    ids = ("0" + place.cast(pl.String).str.zfill(9)) + "0001" + place.cast(pl.String).str.zfill(12)
    score = rng.random(rows)
    return pl.DataFrame({
        "id": ids, "service": ["bench"] * rows, "package": [PACKAGE] * rows,
        "at": 1.7e9 + place.cast(pl.Float64) / 100, "epoch": pl.repeat(1, rows, eager=True, dtype=pl.Int64),
        "unit": ids, "live": pl.repeat(True, rows, eager=True), "propensity": np.ones(rows),
        "latency": rng.gamma(2.0, 0.001, rows), "error": [""] * rows,
        "fallback": pl.repeat(False, rows, eager=True), "score": score,
        "label": np.where(score >= 0.5, "yes", "no"), "value": pl.Series([None] * rows, dtype=pl.Float64),
        "scores": pl.Series([None] * rows, dtype=pl.List(pl.Float64)),
        **{f"in.{n}": rng.normal(size=rows) for n in NAMES},
        "rest": pl.Series([None] * rows, dtype=pl.String), "source": ["0001-000000"] * rows,
        "offset": pl.repeat(0, rows, eager=True, dtype=pl.Int64),
    })  # fmt: skip


def main(rows: int) -> None:
    """Write, look up, scan; print the figures."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        segments = Segments(root / "segments")
        (root / "segments").mkdir()
        for number, start in enumerate(range(0, rows, MERGED)):
            size = min(MERGED, rows - start)
            segments.write("answers", "bench", "0001", number, number, table(start, size, rng))
        size = sum(s.size for s in segments.all("answers"))
        print(f"{rows:,} rows in {len(segments.all('answers'))} files, {size / 1e6:,.0f} MB")
        log = PredictionFiles(root, lambda _: SPEC)
        spans = []
        for place in rng.integers(0, rows, LOOKUPS):
            began = time.perf_counter()
            (found,) = log.find(f"0{place:09d}0001{place:012d}")
            spans.append((time.perf_counter() - began) * 1e3)
            assert found.id.endswith(f"{place:012d}")
        print(f"look-up by id: p50 {np.quantile(spans, 0.5):.1f} ms, p99 {np.quantile(spans, 0.99):.1f} ms")
        began = time.perf_counter()
        pl.scan_parquet(root / "segments" / "answers.*.parquet").group_by("package").agg(
            pl.len(), pl.col("score").mean(), pl.col("latency").quantile(0.99)).collect()
        print(f"scan of all rows (count, mean score, p99 latency): {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
