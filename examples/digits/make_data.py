"""Write data/digits.parquet: 1,797 handwritten digits of 8 by 8 pixels, from scikit-learn's copy of UCI's."""

from pathlib import Path

import polars as pl
from sklearn.datasets import load_digits

if __name__ == "__main__":
    found = load_digits()
    pixels = {f"p{row}{column}": found.images[:, row, column].astype("uint8") for row in range(8) for column in range(8)}
    target = Path(__file__).parent / "data" / "digits.parquet"
    target.parent.mkdir(exist_ok=True)
    pl.DataFrame(pixels | {"digit": found.target.astype(str)}).write_parquet(target, compression_level=19)
