"""`python -m examples.compas [FOLDER]`: a model of relapse that accuses black people more, refused."""

import csv
import io
import sys

from examples.people import tell

NAMES = ("age", "sex", "race", "juv_fel_count", "juv_misd_count", "juv_other_count", "priors_count",
         "c_charge_degree", "again")  # fmt: skip


def table(data: bytes) -> str:
    """The columns a court knows before its decision; no names, no birth dates. Rows as ProPublica
    chose them: charged within 30 days of the screening, with a known outcome."""
    out = io.StringIO()
    writer = csv.DictWriter(out, NAMES)
    writer.writeheader()
    for row in csv.DictReader(io.StringIO(data.decode())):
        delay = row["days_b_screening_arrest"]
        if delay and abs(float(delay)) <= 30 and row["is_recid"] != "-1" and row["c_charge_degree"] != "O":
            again = "yes" if row["two_year_recid"] == "1" else "no"
            writer.writerow({**{name: row[name] for name in NAMES[:-1]}, "again": again})
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(tell("compas", "compas/compas-scores-two-years.csv", table))
