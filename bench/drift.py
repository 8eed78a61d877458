"""What watching costs and how often it is wrong: `make bench-drift` writes the figures into docs/watching.md.

Everything is drawn by seed. Times are CPU seconds of one process, ours and Evidently's on the same
machine in the same run; Evidently and NannyML live in environments of their own (bench/.venvs).
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from msgspec import Struct
from numpy.typing import NDArray

from bench.peers import VENVS
from fairlead.core.drift import alarms, breaches, distance
from fairlead.core.estimate import calibrate, cbpe
from fairlead.core.intake import seat
from fairlead.core.profile import ColumnProfile, histogram, profile_numbers, quantile_edges
from fairlead.core.vigil import Vigil

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "watching.md"
START, END = "<!-- figures of make bench-drift -->", "<!-- end of figures -->"
REQUIRES = {"evidently": ("evidently", "pandas<3"), "nannyml": ("nannyml", "statsmodels")}

FEATURES, ROWS, KNOWN, PEER_FEATURES = 200, 1_000_000, 100_000, 8
CHUNK = 50_000
DAY, REFERENCE, PER_DAY, YEAR = 86_400.0, 60, 1_000, 365
ALARMS = 365.0
"""Days between false alarms that the detectors promise over all features."""
SHIFT, SEEDS = 0.25, 15

Matrix = NDArray[np.float64]


class Bar(Struct, frozen=True, kw_only=True):
    """One line of the table; `kept` None: only published, or not measured here."""

    what: str
    bar: str
    found: str
    kept: bool | None = None


# ---- cost


def cost() -> list[Bar]:
    """Profile and compare 200 columns of a million rows, in pieces, beside Evidently's preset."""
    rng = np.random.default_rng(0)
    reference = [profile_numbers(f"f{i}", values, quantile_edges(values))
                 for i, values in enumerate(rng.normal(size=(FEATURES, KNOWN)))]  # fmt: skip
    totals = [np.zeros(len(r.bins), dtype=np.int64) for r in reference]
    spent = 0.0
    for _ in range(ROWS // CHUNK):
        piece = rng.normal(size=(FEATURES, CHUNK))
        start = time.process_time()
        for total, column, known in zip(totals, piece, reference, strict=True):
            total += histogram(column, known.edges)
        spent += time.process_time() - start
    start = time.process_time()
    for total, known in zip(totals, reference, strict=True):
        window = ColumnProfile(name=known.name, kind="number", n=ROWS, nulls=0, edges=known.edges,
                               bins=tuple(total.tolist()))  # fmt: skip
        distance(known, window)
        breaches(known, window)
    spent += time.process_time() - start
    ours = spent / FEATURES
    peer = _peer("evidently", "evidently_drift.py", PEER_FEATURES, ROWS, KNOWN)
    lines = [Bar(what=f"{FEATURES} features x {ROWS:,} rows: CPU seconds",
                 bar="published", found=f"{spent:.2f} ({spent / FEATURES / ROWS * 1e9:.1f} ns a value)"),
             Bar(what="memory at its highest, rows read in pieces", bar="independent of rows",
                 found=f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")]  # fmt: skip
    if isinstance(peer, str):
        return [*lines, Bar(what="times faster than Evidently's preset", bar=">= 20", found=peer)]
    theirs = peer["seconds"] / PEER_FEATURES
    said = f"{theirs / ours:,.0f} ({theirs:.2f} s against {ours:.4f} s a feature; Evidently {peer['mb']:.0f} MB for {PEER_FEATURES} features)"
    return [*lines, Bar(what="times faster than Evidently's preset, a feature of 1,000,000 rows against 100,000",
                        bar=">= 20", found=said, kept=theirs >= 20 * ours)]  # fmt: skip


# ---- errors of the detectors


class World:
    """200 features, day after day. Each day's mean wobbles by 0.03 sd, of which a share `memory`
    comes from the day before."""

    def __init__(self, seed: int, memory: float = 0.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._memory, self._mood = memory, np.zeros(FEATURES)
        sample = self._rng.normal(size=20_000)
        self.known = profile_numbers("f", sample, quantile_edges(sample))
        self._seat = seat(self.known)
        self.names = [f"f{i}" for i in range(FEATURES)]

    def day(self, shift: float = 0.0) -> dict[str, ColumnProfile]:
        """One day; `shift`: of feature f0, in standard deviations."""
        fresh = self._rng.normal(size=FEATURES) * np.sqrt(1 - self._memory**2) * 0.03
        self._mood = self._memory * self._mood + fresh
        values = self._rng.normal(size=(FEATURES, PER_DAY)) + self._mood[:, None]
        values[0] += shift
        return {name: self._seat.profiled([0, *histogram(column, self.known.edges)])
                for name, column in zip(self.names, values, strict=True)}  # fmt: skip

    def vigil(self) -> Vigil:
        """A watch that knows REFERENCE days."""
        days = [self.day() for _ in range(REFERENCE)]
        return Vigil({name: [day[name] for day in days] for name in self.names})

    def step(self, vigil: Vigil, place: int, shift: float = 0.0) -> list[str]:
        """One day of the watch; the features that alarm now."""
        window = {name: (self.known, seen) for name, seen in self.day(shift).items()}
        vigil.step(place * DAY, window, ALARMS)
        return [cause.column for cause in vigil.causes()]


def year(seed: int, memory: float) -> tuple[int, int]:
    """(alarms, alarms of the detectors before materiality is asked) in a year without change."""
    world, raised, bare = World(seed, memory), 0, 0
    vigil, before, proven = world.vigil(), set[str](), set[int]()
    for place in range(YEAR):
        now = set(world.step(vigil, place))
        certain = set(alarms(vigil.detectors(), ALARMS))
        raised, bare = raised + len(now - before), bare + len(certain - proven)
        before, proven = now, certain
    return raised, bare


def delay(seed: int) -> tuple[int, int]:
    """(days until a shift of 0.25 sd in one feature is found, others named meanwhile)."""
    world = World(seed)
    vigil, wrong = world.vigil(), 0
    for place in range(40):
        found = world.step(vigil, place, SHIFT)
        if "f0" in found:
            return place + 1, wrong + len(found) - 1
    return 40, wrong


def errors() -> list[Bar]:
    """False alarms of benign years, and days to find a small shift."""
    still = [year(seed, 0.0) for seed in (1, 2)]
    moody = [year(seed, 0.5) for seed in (1, 2)]
    delays = sorted(delay(100 + seed)[0] for seed in range(SEEDS))
    middle = delays[len(delays) // 2]
    return [
        Bar(what=f"false alarms a year, {FEATURES} features, {PER_DAY:,} rows a day, exchangeable days",
            bar="<= 1", found=_both(still), kept=max(r for r, _ in still) <= 1),
        Bar(what="the same, each day inheriting half of its mood from the day before", bar="published",
            found=_both(moody)),
        Bar(what=f"days to find a shift of {SHIFT} sd in one of {FEATURES} features",
            bar="<= 6", found=f"median {middle}, 9 of 10 within {delays[int(0.9 * SEEDS) - 1]} ({SEEDS} runs)",
            kept=middle <= 6),
    ]  # fmt: skip


def _both(years: list[tuple[int, int]]) -> str:
    acted, bare = zip(*years, strict=True)
    return f"{', '.join(map(str, acted))} ({', '.join(map(str, bare))} before the size is asked)"


# ---- quality without labels


def labelled(rng: np.random.Generator, n: int, shift: float = 0.0) -> tuple[Matrix, Matrix]:
    """Truths, and scores of a model that is too sure of itself."""
    z = rng.normal(shift, 1.2, n)
    return (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64), 1 / (1 + np.exp(-1.8 * z))


def unlabelled() -> list[Bar]:
    """CBPE beside NannyML, and against the truth under covariate shift."""
    rng = np.random.default_rng(3)
    y, score = labelled(rng, 10_000)
    calibration = calibrate(score, y)
    shifts = np.repeat([0.0, 0.4, 0.8, 1.2], 10)
    parts = [labelled(rng, 2_000, shift) for shift in shifts]
    seen = [cbpe(s, calibration.rate(s)) for _, s in parts]
    misses = [abs(e.accuracy - float(np.mean((s >= 0.5) == t))) for e, (t, s) in zip(seen, parts, strict=True)]
    worst = float(np.mean(misses))
    lines = [Bar(what="mean error of the accuracy expected without labels, covariate shift of 0 to 1 sd, 2,000 rows",
                 bar="<= 0.012", found=f"{worst:.4f} (chance alone: {np.mean([e.sd_accuracy for e in seen]) * 0.8:.4f})",
                 kept=worst <= 0.012)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        known, asked = Path(folder) / "reference.csv", Path(folder) / "analysis.csv"
        _table(score, y).write_csv(known)
        pl.concat([_table(s) for _, s in parts]).write_csv(asked)
        peer = _peer("nannyml", "nannyml_cbpe.py", known, asked, 2_000)
    what = "largest difference from NannyML (AUC, accuracy, precision, recall, F1; 40 chunks)"
    if isinstance(peer, str):
        return [*lines, Bar(what=what, bar="<= 1e-4", found=peer)]
    names = {"roc_auc": "auc", "accuracy": "accuracy", "precision": "precision",
             "recall": "true_positive_rate", "f1": "f1"}  # fmt: skip
    gap = max(abs(value - getattr(e, ours)) for theirs, ours in names.items()
              for value, e in zip(peer[theirs], seen, strict=True))  # fmt: skip
    return [*lines, Bar(what=what, bar="<= 1e-4", found=f"{gap:.1e}", kept=gap <= 1e-4)]


def _table(score: Matrix, y: Matrix | None = None) -> pl.DataFrame:
    columns = {"score": score, "guess": (score >= 0.5).astype(np.int64)}
    return pl.DataFrame(columns | ({} if y is None else {"y": y.astype(np.int64)}))


# ---- peers and the page


def _peer(name: str, script: str, *arguments: object) -> Any:
    """What a peer's script printed; in words why there is none."""
    python = VENVS / name / "bin" / "python"
    if not python.exists():
        return f"not measured: `make bench-drift INSTALL=1` gets {name}"
    command = [str(python), str(Path(__file__).parent / "servers" / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"not measured: {name} failed ({done.stderr.strip().splitlines()[-1][:100]})"
    return json.loads(done.stdout.strip().splitlines()[-1])


def install() -> None:
    """Make the peers' environments."""
    for name, packages in REQUIRES.items():
        folder = VENVS / name
        if not (folder / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", *packages], check=False)


def main(argv: list[str]) -> int:
    """Measure, write the page, and say by the exit status whether every bar was kept."""
    if "--install" in argv:
        install()
    rows: list[Bar] = []
    parts: tuple[Callable[[], list[Bar]], ...] = (cost, errors, unlabelled)
    for part in parts:
        for row in part():
            rows.append(row)
            print(f"{row.what}: {row.found} (bar {row.bar})", flush=True)
    table = ["| what | bar | found |", "|---|---|---|", *(f"| {r.what} | {r.bar} | {r.found} |" for r in rows)]
    text = PAGE.read_text()
    head, tail = text[: text.index(START) + len(START)], text[text.index(END) :]
    PAGE.write_text("\n".join([head, *table, tail]))
    return int(any(r.kept is False for r in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
