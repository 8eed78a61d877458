"""`python -m examples.adult [FOLDER]`: a model of incomes that treats women otherwise, refused."""

import sys

from examples.people import tell

NAMES = ("age,workclass,weight,education,education_num,marital_status,occupation,relationship,race,"
         "sex,capital_gain,capital_loss,hours_per_week,native_country,income")  # fmt: skip


def table(data: bytes) -> str:
    """The file as CSV: names on top, "?" is missing."""
    lines = (line.split(", ") for line in data.decode().splitlines() if line)
    return "\n".join([NAMES, *(",".join("" if c == "?" else c for c in cells) for cells in lines)])


if __name__ == "__main__":
    sys.exit(tell("adult", "adult/adult.data", table))
