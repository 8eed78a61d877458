"""`python -m prove` draws every proof and picture again and writes them under docs/."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from prove import gateway
from prove.page import rows, write
from prove.pictures import PICTURES

DOCS = Path(__file__).parents[1] / "docs"
RUNS = 4000


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 1 when a bar is not kept. `--part 50` draws a 50th of the runs, to try things out."""
    parser = ArgumentParser(prog="python -m prove", description=__doc__)
    parser.add_argument("--to", type=Path, default=DOCS, help="folder to write to (docs)")
    parser.add_argument("--part", type=int, default=1, help="draw only this part of the runs")
    options = parser.parse_args(argv)
    table = rows(options.part, _say)
    made = {"proofs.md": write(table)}
    for name, draw in PICTURES.items():
        made[f"pictures/{name}"] = draw(max(RUNS // options.part, 200))
    for name, text in made.items():
        target = options.to / name
        before = target.read_text() if target.exists() else None
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        _say(f"{target.name}: {'as it was' if text == before else 'written'}")
    short = [row.situation for row in table if row.met is False]
    short += filter(None, [gateway.short()])
    for situation in short:
        _say(f"falls short: {situation}")
    return 1 if short else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
