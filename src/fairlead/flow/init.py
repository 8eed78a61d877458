"""The start of a project: look at a table, decide what can be decided, and write the files."""

import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as changed

from fairlead.core.artifact import Task
from fairlead.core.schema import Schema
from fairlead.core.target import MOST, label, task_of
from fairlead.errors import Conflict, Invalid, Missing
from fairlead.flow import scaffold
from fairlead.flow.conform import canonical, infer_contract
from fairlead.flow.scaffold import Draft, Fact, Remark, Wishes

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Draft", "Fact", "Wishes", "draft", "targets", "write"]

FEWEST_ROWS = 20
LEAK_VALUES = 100
"""Columns with more values are not looked at: many values tell everything by chance."""


def draft(frame: "pl.DataFrame", remarks: Sequence[Remark], wishes: Wishes, table: Path) -> Draft:
    """Decide task and roles from the data. `remarks`: what was noted while reading the file.

    Raises Invalid, naming the nearest columns, when a named column does not exist or cannot play
    its role.
    """
    if frame.height < FEWEST_ROWS:
        raise Invalid(f"{table.name} holds {frame.height} rows",
                      hint=f"a model needs at least {FEWEST_ROWS}, better thousands")  # fmt: skip
    frame = canonical(frame)
    contract = infer_contract(frame)
    for role in ("target", "time", "entity"):
        _known(contract, role, getattr(wishes, role))
    for column in (*wishes.sensitive, *wishes.ignore):
        _known(contract, "sensitive" if column in wishes.sensitive else "ignore", column)
    facts = _facts(frame, contract)
    task, notes = _task(frame, facts[wishes.target])
    notes += _time(facts, frame, wishes)
    facts = _roles(frame, facts, wishes)
    notes += _leaks(frame, facts, wishes.target) + _groups(facts, wishes)
    ignored = {f.name for f in facts.values() if f.role == "ignored"}
    seen = [str(r) for r in remarks if r.column not in ignored]
    made = Draft(service=wishes.service or _service(table), task=task, target=wishes.target,
                 rows=frame.height, facts=tuple(facts.values()), wishes=wishes,
                 findings=(*seen, *notes))  # fmt: skip
    if wishes.time:
        time = contract.column(wishes.time)
        made = changed(made, since=time.low or 0.0, until=time.high or 0.0)
    if task == "regression":
        return made
    shares = _shares(frame, wishes.target)
    return changed(made, classes=shares, rare=tuple(_rare(shares, frame.height)))


def targets(frame: "pl.DataFrame") -> list[Fact]:
    """Columns that could be predicted, the likeliest first."""
    frame = canonical(frame)

    def likeliest(item: tuple[int, Fact]) -> tuple[bool, bool, int]:
        place, fact = item
        named = any(word in fact.name.lower() for word in scaffold.TARGET_WORDS)
        return not named, fact.distinct != 2, -place

    facts = [f for f in _facts(frame, infer_contract(frame)).values() if f.dtype != "datetime"
             and f.distinct >= 2 and f.missing <= 0.5 and not _identifies(frame, f)
             and (f.dtype in ("int", "float") or f.distinct <= MOST)]  # fmt: skip
    return [fact for _, fact in sorted(enumerate(facts), key=likeliest)]


def write(made: Draft, table: Path, folder: Path) -> list[Path]:
    """Write fairlead.yaml, train.py and .gitignore, and copy the table when it lies outside.

    Raises Conflict when the folder holds a project or a train.py already.
    """
    for name in ("fairlead.yaml", "train.py"):
        if (folder / name).exists():
            raise Conflict(f"{folder / name} exists already",
                           hint="choose another folder with --into, or move the file away")  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    source = _within(table.resolve(), folder.resolve())
    if source is None:
        source = Path("data") / table.name
        (folder / "data").mkdir(exist_ok=True)
        shutil.copyfile(table, folder / source)
    texts = {"fairlead.yaml": scaffold.manifest(made, source.as_posix()),
             "train.py": scaffold.training(made.task)}  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    _ignore(folder / ".gitignore")
    return [folder / name for name in (*texts, ".gitignore")]


def _ignore(path: Path) -> None:
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    new = [line for line in scaffold.GITIGNORE if line not in old.splitlines()]
    if new:
        gap = "\n" if old and not old.endswith("\n") else ""
        path.write_text(old + gap + "\n".join(new) + "\n", encoding="utf-8")


def _within(table: Path, folder: Path) -> Path | None:
    return table.relative_to(folder) if table.is_relative_to(folder) else None


def _known(contract: Schema, role: str, column: str) -> None:
    if not column or column in contract.names:
        return
    lower = {n.lower(): n for n in contract.names}
    close = [lower[c] for c in get_close_matches(column.lower(), lower, n=3, cutoff=0.5)]
    near = f"did you mean {' or '.join(close)}? " if close else ""
    shown = ", ".join(contract.names[:30]) + (" ..." if len(contract.names) > 30 else "")
    raise Missing(f"--{role}: the table has no column {column!r}", hint=f"{near}columns: {shown}")


def _facts(frame: "pl.DataFrame", contract: Schema) -> dict[str, Fact]:
    import polars as pl

    nulls = frame.null_count().row(0, named=True)
    distinct = frame.select(pl.all().drop_nulls().n_unique()).row(0, named=True)
    facts = {}
    for column in contract.columns:
        name = column.name
        if column.dtype in ("int", "float", "datetime") and column.low is not None:
            holds = scaffold.interval(column.low, column.high or column.low, column.dtype)
        else:
            values = frame.get_column(name).drop_nulls().head(10_000)
            common = values.value_counts(sort=True).get_column(name).to_list()
            few, most = (1, 40) if column.dtype == "text" else (3, 18)
            holds = ", ".join(scaffold.cut(str(v), most) for v in common[:few])
        facts[name] = Fact(name=name, dtype=column.dtype, distinct=distinct[name], holds=holds,
                           missing=nulls[name] / frame.height)  # fmt: skip
    return facts


def _task(frame: "pl.DataFrame", target: Fact) -> tuple[Task, list[str]]:
    """The task, and what to say about the target. Raises Invalid when it cannot be learnt."""
    name = target.name
    if target.missing > 0.5:
        raise Invalid(f"target {name!r} is missing in {target.missing:.0%} of the rows",
                      hint="choose a column that is mostly known, or drop the rows without it")  # fmt: skip
    if target.distinct == 1:
        raise Invalid(f"target {name!r} is constant: {target.holds}",
                      hint="there is nothing to predict; choose a column with several values")  # fmt: skip
    task = task_of(name, target.dtype, target.distinct)
    notes = []
    if target.missing:
        notes.append(f"{name}: {target.missing:.1%} of the rows have no value; they are left out of training")  # fmt: skip
    if task == "multiclass" and target.dtype in ("int", "float"):
        notes.append(f"{name}: {target.distinct} whole numbers are taken as classes; set `task: regression` to predict the number")  # fmt: skip
    shares = () if task == "regression" else _shares(frame, name)
    if rare := _rare(shares, frame.height):
        notes.append(f"{name}: fewer than {FEWEST_ROWS} rows of {_few(rare)}; group rare classes or collect more")  # fmt: skip
    return task, notes


def _shares(frame: "pl.DataFrame", target: str) -> tuple[tuple[str, float], ...]:
    counts = frame.get_column(target).drop_nulls().value_counts(sort=True)
    total = counts.get_column("count").sum()
    return tuple((label(value), n / total) for value, n in counts.iter_rows())


def _rare(shares: Sequence[tuple[str, float]], rows: int) -> list[str]:
    return [name for name, share in shares if share * rows < FEWEST_ROWS]


def _time(facts: dict[str, Fact], frame: "pl.DataFrame", wishes: Wishes) -> list[str]:
    dates = [f.name for f in facts.values() if f.dtype == "datetime"]
    if not wishes.time:
        return [f"--time was not given, but {_few(dates)} holds dates: with it, the newest rows are held out and drift can be seen"] if dates else []  # fmt: skip
    fact = facts[wishes.time]
    if fact.dtype != "datetime":
        hint = f"columns with times: {', '.join(dates)}" if dates else "no column holds times; leave --time out"  # fmt: skip
        raise Invalid(f"--time: {fact.name!r} is {fact.dtype}, such as {fact.holds}", hint=hint)
    if fact.missing:
        return [f"{fact.name}: {fact.missing:.1%} of the rows have no time; fill it or drop them"]
    return []


def _roles(frame: "pl.DataFrame", facts: dict[str, Fact], wishes: Wishes) -> dict[str, Fact]:
    roles = {**dict.fromkeys(wishes.ignore, "ignored"), **dict.fromkeys(wishes.sensitive, "sensitive"),
             wishes.entity: "entity", wishes.time: "time", wishes.target: "target"}  # fmt: skip
    notes = dict.fromkeys(wishes.ignore, "as you said")
    for fact in facts.values():
        if fact.name in roles:
            continue
        why = ("empty" if fact.missing == 1 else "constant" if fact.distinct < 2
               else "an identifier" if _identifies(frame, fact) else "")  # fmt: skip
        if why:
            roles[fact.name], notes[fact.name] = "ignored", why
    return {n: changed(f, role=roles.get(n, ""), note=notes.get(n, "")) for n, f in facts.items()}


def _identifies(frame: "pl.DataFrame", fact: Fact) -> bool:
    """Whether every row has its own value, and the values look like keys rather than measures."""
    if fact.missing or fact.distinct < frame.height or frame.height < FEWEST_ROWS:
        return False
    column: Any = frame.get_column(fact.name)
    if fact.dtype == "int":
        return bool(column.max() - column.min() < 10 * frame.height)
    if fact.dtype in ("category", "text"):
        return not column.cast(str).str.contains(r"\s").any()
    return False


def _leaks(frame: "pl.DataFrame", facts: dict[str, Fact], target: str) -> list[str]:
    """Columns whose value alone says what the target is: mostly known only afterwards."""
    import polars as pl

    known = frame.filter(pl.col(target).is_not_null())
    found = []
    for fact in facts.values():
        if fact.role or not 2 <= fact.distinct <= LEAK_VALUES or facts[target].distinct > LEAK_VALUES:  # fmt: skip
            continue
        groups = known.group_by(fact.name).agg(pl.col(target).n_unique().alias("n"), pl.len())
        if groups.get_column("n").max() == 1 and known.height >= 5 * groups.height:
            found.append(f"{fact.name}: its value alone says what {target} is; if it is known only afterwards, add it to data.ignore")  # fmt: skip
    return found


def _groups(facts: dict[str, Fact], wishes: Wishes) -> list[str]:
    for name in wishes.sensitive:
        fact = facts[name]
        if fact.dtype not in ("category", "bool") and fact.distinct > 20:
            raise Invalid(f"--sensitive: {name!r} has {fact.distinct:,} values ({fact.holds})",
                          hint="groups are compared: add a column with a few, such as age bands")  # fmt: skip
        if name == wishes.target:
            raise Invalid(f"--sensitive: {name!r} is the target", hint="choose another column")
    return [f"{f.name}: {f.missing:.0%} missing" for f in facts.values()
            if f.missing > 0.5 and f.role == ""]  # fmt: skip


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(n) for n in names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _service(table: Path) -> str:
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in table.stem.lower())
    return name.strip("-")[:63] or "model"
