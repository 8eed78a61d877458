"""What something touched: a tree from an artifact forward to the predictions."""

from rich.console import Group, RenderableType
from rich.text import Text

from fairlead.api.present.figures import count, name, stamp
from fairlead.api.present.table import grid
from fairlead.flow.impact import Impact

__all__ = ["impact_view"]


def impact_view(found: Impact) -> RenderableType:
    """Models and what they learnt, releases, and the predictions by package."""
    parts: list[RenderableType] = [Text.assemble(
        name(found.subject), "  touched ", (f"{count(found.predictions)} predictions", "bold"))]  # fmt: skip
    if found.taught:
        table = grid("model", "learnt from", "held out", "not used", right=("learnt from", "held out", "not used"))
        for lesson in found.taught:
            table.add_row(name(lesson.model), *(count(n) for n in (lesson.learnt, lesson.held_out, lesson.unused)))
        parts.append(table)
    if found.reached:
        table = grid("package", "answers", "mirrored", "units", "from", "to", right=("answers", "mirrored", "units"))
        for reach in found.reached:
            table.add_row(name(reach.package), *(count(n) for n in (reach.answers, reach.mirrored, reach.units)),
                          stamp(reach.first_at), stamp(reach.last_at))  # fmt: skip
        newest = max((i for r in found.reached for i in r.newest), default="")
        parts += [table, Text(f"the newest: fairlead why {newest}", "dim")] if newest else [table]
    if found.releases:
        parts.append(Text("carried by " + ", ".join(f"{i} ({p.value})" for i, _, p in found.releases), "dim"))
    parts += [Text.assemble(("gap ", "yellow"), gap) for gap in found.gaps]
    return Group(*parts)
