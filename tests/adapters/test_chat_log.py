"""Chats in the prediction log: the same before and after sealing, and nothing of what is hidden."""

from pathlib import Path

import msgspec
import pytest

from fairlead.adapters.predictions.files import PredictionFiles
from fairlead.core.answers import answers_of, measured
from fairlead.core.artifact import PackageSpec
from fairlead.core.encoding import Encoding
from fairlead.core.journal import HEADER, Batch, frame
from fairlead.core.manifest import LogSection
from fairlead.core.ref import Ref
from fairlead.core.schema import Schema
from fairlead.core.veil import veil

PACKAGE = Ref("package", "desk", "a" * 64)
SPEC = PackageSpec(model=Ref("model", "desk", "b" * 64), flavor="openai", task="chat", contract=Schema(columns=()),
                   encoding=Encoding(()), files={})  # fmt: skip
NAN = float("nan")


def batch(number: int, output: list[float] | None, said: dict[str, str] | None, error: str = "", live: bool = True) -> Batch:
    body = {"user": "ann", "messages": [{"role": "user", "content": f"secret {number}"}]}
    return Batch(
        service="desk", package=str(PACKAGE), at=100.0 + number, epoch=1, live=live, propensity=1.0,
        ids=[f"{number:010d}desk{number:012d}"], units=["ann"], bodies=[msgspec.json.encode(body)], features=[None],
        outputs=[output], errors=[error], fallback=[False], latencies=[0.5], said=[said],
    )  # fmt: skip


BATCHES = [batch(1, [0.2, 10.0, 5.0, 0.1], {"answer": "yes", "finish_reason": "stop"}),
           batch(2, [NAN, NAN, NAN, NAN], {"answer": "y", "finish_reason": "gone"}),
           batch(3, None, {"answer": "ye", "finish_reason": "error"}, "it broke off"),
           batch(4, None, None, "the provider answers 500"),
           batch(1, [9.0, 9.0, 9.0, 9.0], {"answer": "no", "finish_reason": "stop"}, live=False)]  # fmt: skip


def test_a_chat_reads_the_same_before_and_after_it_is_sealed(tmp_path: Path) -> None:
    log = PredictionFiles(tmp_path, lambda _: SPEC)
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / "desk-000000.log").write_bytes(HEADER + b"".join(map(frame, BATCHES)))
    before = list(log.predictions())
    assert log.seal() == 5
    after = sorted(log.predictions(), key=lambda p: (p.at, not p.live))
    assert after == sorted(before, key=lambda p: (p.at, not p.live))
    first, _, gone, broken, silent = after
    assert first.output == {"answer": "yes", "finish_reason": "stop", "cost": 0.2, "prompt_tokens": 10.0,
                            "completion_tokens": 5.0, "first_token": 0.1}  # fmt: skip
    assert gone.output["cost"] is None and gone.output["answer"] == "y"
    assert broken.output["answer"] == "ye" and broken.error == "it broke off" and silent.output is None
    assert first.inputs["messages"][0]["content"] == "secret 1"


@pytest.mark.parametrize(("log", "kept"), [
    (LogSection(drop=("messages", "answer")), {"user": "ann"}),
    (LogSection(redact=("messages", "answer", "user")), None),
    (LogSection(sample=0.0), {}),
])  # fmt: skip
def test_hidden_words_do_not_reach_the_disk(log: LogSection, kept: dict[str, str] | None) -> None:
    cover = veil(log, b"key", "user")
    assert cover is not None
    made = cover(BATCHES[0])
    written = frame(made)
    assert b"secret" not in written and b"yes" not in written
    if kept is None:
        assert made.units[0] != "ann" and made.said[0] == {"answer": made.said[0]["answer"], "finish_reason": "stop"}  # type: ignore[index]
    elif kept:
        assert msgspec.json.decode(made.bodies[0]) == kept and made.said == [{"finish_reason": "stop"}]


def test_what_is_known_of_an_answer_is_its_feedback() -> None:
    (answers,) = answers_of(BATCHES)
    found = measured(answers)
    assert found.keys() == {"cost", "prompt_tokens", "completion_tokens", "first_token"}
    assert [(n.prediction[-1], n.value, n.at) for n in found["cost"]] == [("1", 0.2, 101.5)], "live, and told"
