"""Explaining models: exactly where the graph is one ensemble of trees, by gradients where it is a net, else by sampled orders."""

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairlead.core.encoding import Encoding
from fairlead.core.shapley import DEEPEST, Explained, Trees, gradients, permutations
from fairlead.errors import Missing
from fairlead.flavors.net import PRODUCER
from fairlead.flavors.onnx import FILE

__all__ = ["Explainer"]

Rows = NDArray[np.float32]
Vector = NDArray[np.float64]

MODES = {"BRANCH_LEQ": "<=", "BRANCH_LT": "<", "BRANCH_GTE": ">=", "BRANCH_GT": ">", "BRANCH_EQ": "==",
         "BRANCH_NEQ": "!="}  # fmt: skip
NEAR = 1e-4
"""How exactly the parsed trees must give the model's own answers before they explain it."""
SURE = 1e-5
"""Scores this near to 0 or 1 have no log-odds that float32 can tell."""


class Explainer:
    """Explains one output of one model. `method`: "trees" (exact), "gradients" (of a net; `error` is
    what was left over) or "permutations" (with an error).

    `space`: what contributions add up to: "log-odds", "log", "margin" (before softmax) or "score".
    """

    def __init__(self, folder: Path, scorer: Callable[[Rows], Rows], encoding: Encoding,
                 background: Rows, output: int = 0) -> None:  # fmt: skip
        """`background`: encoded rows whose average answer is the base. `output`: column of scores.
        Raises Missing without the onnx package."""
        self._scorer, self._background, self._output = scorer, background, output
        self.players = tuple(dict.fromkeys(c.column for c in encoding.columns))
        self._owner = np.array([self.players.index(c.column) for c in encoding.columns
                                for _ in range(Encoding((c,)).width)])  # fmt: skip
        self._trees, self.space = self._known(folder)
        self.method = "trees" if self._trees is not None else "gradients" if _net(folder) else "permutations"

    def __call__(self, row: Rows) -> Explained:
        """Explain an encoded row (width,)."""
        if self._trees is not None:
            return self._trees.explain(row, self._background)
        if self.method == "gradients":
            return gradients(self.answers, row, self._background, self._owner)
        return permutations(self.answers, row, self._background, self._owner, seed=0)

    def answers(self, rows: Rows) -> Vector:
        """The model's answers in `space` (n,)."""
        if self._trees is not None:
            return self._trees.answers(rows)
        scores = self._scores(rows)
        if self.space == "score":
            return scores
        held = np.clip(scores, SURE, 1 - SURE)
        return np.asarray(np.log(held / (1 - held)))

    def _scores(self, rows: Rows) -> Vector:
        return self._scorer(rows)[:, self._output].astype(np.float64)

    def _known(self, folder: Path) -> tuple[Trees | None, str]:
        """The trees that provably are this model, if there are any, and the space they add up in."""
        wanted = self._scorer(self._background).astype(np.float64)
        mine = wanted[:, self._output]
        found = list(_ensembles(folder / FILE, self._owner)) if (folder / FILE).exists() else []
        raw = np.stack([t.answers(self._background) for t in found], axis=1) if found else np.empty((len(mine), 0))
        for place, trees in enumerate(found):
            for space, link in _LINKS.items():
                if np.allclose(link(raw, place), mine, atol=NEAR * (1 + float(np.abs(mine).max()))):
                    return trees, space
        inside = bool(((mine > SURE) & (mine < 1 - SURE)).all())
        return None, "log-odds" if inside and wanted.shape[1] == 1 and mine.std() > 0 else "score"


def _sigmoid(raw: Vector, place: int) -> Vector:
    return np.asarray(1 / (1 + np.exp(-np.clip(raw[:, place], -700, 700))))


def _softmax(raw: Vector, place: int) -> Vector:
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(powers[:, place] / powers.sum(axis=1))


_LINKS: dict[str, Callable[[Vector, int], Vector]] = {
    "score": lambda raw, place: raw[:, place],
    "log-odds": _sigmoid,
    "log": lambda raw, place: np.asarray(np.exp(np.clip(raw[:, place], -700, 700))),
    "margin": _softmax,
}
"""From raw sums to scores, by the space of the sums."""


def _ensembles(path: Path, owner: NDArray[np.int64]) -> Iterator[Trees]:
    """One ensemble per output of the single tree node that reads X; none of another graph."""
    try:
        import onnx
    except ImportError:
        raise Missing("explanations need the onnx package", hint='pip install "fairlead[sklearn]"') from None
    nodes = onnx.load(path).graph.node
    trees = [n for n in nodes if n.op_type in ("TreeEnsembleRegressor", "TreeEnsembleClassifier")]
    if len(trees) != 1 or list(trees[0].input) != ["X"]:
        return
    given = {a.name: onnx.helper.get_attribute_value(a) for a in trees[0].attribute}
    kind = "target" if trees[0].op_type.endswith("Regressor") else "class"
    if any(m.decode() not in MODES and m != b"LEAF" for m in given["nodes_modes"]):
        return
    for output in sorted(set(given[f"{kind}_ids"])):
        made = _ensemble(given, kind, int(output), owner)
        if made is not None:
            yield made


def _net(folder: Path) -> bool:
    """Whether the model is a graph that PyTorch or Keras made."""
    if not (path := folder / FILE).exists():
        return False
    import onnx

    return bool(onnx.load(path).producer_name == PRODUCER)


def _ensemble(given: dict[str, Any], kind: str, output: int, owner: NDArray[np.int64]) -> Trees | None:
    modes = [m.decode() for m in given["nodes_modes"]]
    keys = list(zip(given["nodes_treeids"], given["nodes_nodeids"], strict=True))
    place = {key: i for i, key in enumerate(keys)}
    up: dict[int, tuple[int, bool]] = {}
    for i, (tree, _) in enumerate(keys):
        if modes[i] != "LEAF":
            up[place[tree, given["nodes_truenodeids"][i]]] = i, True
            up[place[tree, given["nodes_falsenodeids"][i]]] = i, False
    bases = list(given.get("base_values", []))
    base = bases[output] if output < len(bases) else bases[0] if len(bases) == 1 else 0.0
    columns = np.array(given["nodes_featureids"], dtype=np.int64)
    test: list[int] = []
    slot: list[int] = []
    side, player, leaf, weight = [], [], [], []
    for tree, node, of, value in zip(*(given[f"{kind}_{f}"] for f in ("treeids", "nodeids", "ids", "weights")), strict=True):
        if of != output:
            continue
        way = sorted(_way(place[tree, node], up), key=lambda step: owner[columns[step[0]]])
        if not way:
            base += value
            continue
        leaf.append(len(slot))
        weight.append(value)
        for who, steps in groupby(way, key=lambda step: int(owner[columns[step[0]]])):
            slot.append(len(test))
            player.append(who)
            for i, passed in steps:
                test.append(i)
                side.append(passed)
        if len(slot) - leaf[-1] > DEEPEST:
            return None
    return Trees(
        column=columns, mode=[MODES.get(m, "==") for m in modes], base=float(base), players=int(owner.max()) + 1,
        threshold=np.array(given["nodes_values"], dtype=np.float32),
        missing=np.array(given.get("nodes_missing_value_tracks_true") or [0] * len(modes), dtype=np.bool_),
        test=np.array(test, dtype=np.int64), side=np.array(side, dtype=np.bool_),
        slot=np.array(slot, dtype=np.int64), owner=np.array(player, dtype=np.int64),
        leaf=np.array(leaf, dtype=np.int64), weight=np.array(weight, dtype=np.float64),
    )  # fmt: skip


def _way(leaf: int, up: dict[int, tuple[int, bool]]) -> Iterator[tuple[int, bool]]:
    """The tests on the way up from a leaf, and how each must come out."""
    while leaf in up:
        leaf, passed = up[leaf]
        yield leaf, passed
