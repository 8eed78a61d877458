"""Make data/electricity.parquet from the source archive of scikit-multiflow 0.4.1, without installing it.

    python make_data.py [archive] [folder]

Without an archive it is fetched with pip (15 MB) and checked against its SHA-256. The archive carries
Elec2 (Harries 1999): half an hour of the electricity market of New South Wales a row, 944 days from
7 May 1996, in order. Will the price be above that of the last day? All columns are scaled to 0..1. The
licence of the data is not stated, so they are fetched and never committed.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

PACKAGE, NAME = "scikit-multiflow==0.4.1", "scikit-multiflow-0.4.1"
ARCHIVE = "ed4f791107cb7f789f0bb0620c50e743a4d397905146a4d06c62eb98607aa101"
COLUMNS = ("period", "nsw_price", "nsw_demand", "vic_price", "vic_demand", "transfer")
FIRST = datetime(1996, 5, 7, tzinfo=UTC)


def fetched(folder: Path) -> Path:
    """The archive, by pip."""
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--no-binary", ":all:",
               "--no-build-isolation", "--quiet", "--dest", str(folder)]  # fmt: skip
    subprocess.run(command, check=True)
    return folder / f"{NAME}.tar.gz"


def table(archive: Path) -> pl.DataFrame:
    """One row per half hour. Refuses an archive that is not the one we know."""
    data = archive.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != ARCHIVE:
        sys.exit(f"{archive} is not {NAME}.tar.gz: its SHA-256 is {found}")
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.extractfile(f"{NAME}/src/skmultiflow/data/datasets/elec.csv")
        assert member is not None
        rows = pl.read_csv(member.read(), new_columns=[*COLUMNS, "up"])
    asked = FIRST + pl.duration(minutes=30) * pl.int_range(pl.len())
    return rows.with_columns(
        pl.col("up") == 1,
        asked_at=asked,
        known_at=asked.dt.truncate("1d") + pl.duration(days=1),  # the market closes its books
    )


def main(argv: list[str]) -> None:
    """Write the table into `folder` (data beside this file)."""
    folder = Path(argv[1]) if len(argv) > 1 else Path(__file__).parent / "data"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(argv[0]) if argv else fetched(Path(scratch))
        table(archive).write_parquet(folder / "electricity.parquet")


if __name__ == "__main__":
    main(sys.argv[1:])
