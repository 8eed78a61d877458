"""What an acknowledgement means: gateways killed under load, disks that refuse, real processes."""

import json
import os
import resource
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.serve.test_gateway import Load

if TYPE_CHECKING:
    from tests.serve.conftest import Plant


def replaced(plant: "Plant", worker: int) -> None:
    plant.wait(lambda: plant.served["gateways"][0] != worker)


def kill_gateways(plant: "Plant", kills: int, **changes: Any) -> tuple[set[str], list[str]]:
    """Ids that callers were given while the gateway was killed again and again, and ids in the journal."""
    plant.publish(plant.package())
    plant.start(**changes)
    with Load(plant, 4) as load:
        for _ in range(kills):
            worker = plant.served["gateways"][0]
            load.more(10)
            os.kill(worker, signal.SIGKILL)
            replaced(plant, worker)
        load.more(10)
    acknowledged = [answer["id"] for _, answer in load.answers]
    assert len(set(acknowledged)) == len(acknowledged) > 10 * kills
    # The last gateway is killed too: what a clean end writes must not help.
    os.kill(plant.served["gateways"][0], signal.SIGKILL)
    journaled = [row["id"] for row in plant.rows()]
    return set(acknowledged), journaled


def test_os_loses_nothing_that_was_acknowledged(plant: "Plant") -> None:
    acknowledged, journaled = kill_gateways(plant, 30, durability="os")
    assert not acknowledged - set(journaled)
    assert len(journaled) == len(set(journaled))


def test_memory_loses_what_its_name_says(plant: "Plant") -> None:
    """The twin that must fail: the same kills at the level that promises nothing."""
    acknowledged, journaled = kill_gateways(plant, 8, durability="memory")
    assert acknowledged - set(journaled)


def test_fsync_loses_nothing_that_was_acknowledged(plant: "Plant") -> None:
    acknowledged, journaled = kill_gateways(plant, 5, durability="fsync")
    assert not acknowledged - set(journaled)


def room(plant: "Plant", size: int) -> None:
    """No file of the gateway may grow beyond `size` bytes; less than nothing: no limit."""
    pid = plant.served["gateways"][0]
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))


def full(plant: "Plant") -> None:
    """From now on the journal cannot grow."""
    journal = next((plant.state / "predictions" / "journal").glob("*.log"))
    room(plant, journal.stat().st_size)


def test_a_full_disk_at_os_answers_and_says_so(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start(durability="os")
    ids = [plant.ask(row)[1]["id"] for _ in range(20)]
    full(plant)
    status, answer = plant.ask(row)
    assert status == 200 and answer["logged"] is False and "score" in answer
    status, several = plant.ask({"rows": [row, row]})
    assert status == 200 and several["logged"] is False and len(several["predictions"]) == 2
    tensors = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    status, inferred = plant.ask(tensors, "/v2/models/m/infer")
    assert status == 200 and inferred["parameters"]["logged"] is False
    told = {"prediction": answer["id"], "value": 1}
    status, error = plant.ask(told, "/feedback")
    assert (status, error["error"]["code"]) == (503, "journal")
    journal = plant.status()["journal"]
    assert journal["durability"] == "os" and journal["unlogged"] == 4 and journal["waiting"] > 0
    assert journal["trouble"] == "File too large"
    assert plant.counted("fairlead_unlogged_total") == 4
    room(plant, -1)
    healed = plant.wait(lambda: (a := plant.ask(row)[1]) and "logged" not in a and a, 2.0)
    assert plant.status()["journal"]["trouble"] == ""
    ids += [answer["id"], *(p["id"] for p in several["predictions"]), healed["id"]]
    assert set(ids) <= {r["id"] for r in plant.rows()}


def test_a_full_disk_at_fsync_refuses(plant: "Plant", row: dict[str, Any]) -> None:
    """What was acknowledged is stored, what was stored was acknowledged."""
    plant.publish(plant.package())
    plant.start(durability="fsync")
    acknowledged = [plant.ask(row)[1]["id"] for _ in range(5)]
    full(plant)
    for _ in range(5):
        status, body = plant.ask(row)
        assert (status, body["error"]["code"]) == (503, "journal")
    room(plant, -1)
    acknowledged.append(plant.wait(lambda: plant.ask(row)[1].get("id"), 2.0))
    assert [r["id"] for r in plant.rows()] == acknowledged
    journal = plant.status()["journal"]
    assert journal["trouble"] == "" and journal["lost"] == journal["unlogged"] >= 5


def test_the_manifest_names_the_level_and_the_gateways(tmp_path: Path) -> None:
    from fairlead.adapters.manifest import load
    from fairlead.api.commands.service import gateway_config

    path = tmp_path / "fairlead.yaml"
    for level in ("memory", "os", "fsync"):
        wanted = {"service": "m", "data": {"source": "t.csv", "target": "y"}, "train": {},
                  "serve": {"durability": level, "gateways": 2}}  # fmt: skip
        path.write_text(json.dumps(wanted))
        config = gateway_config(tmp_path, load(path), "", None)
        assert (config.durability, config.gateways) == (level, 2)
