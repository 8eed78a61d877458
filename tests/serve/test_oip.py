"""Open Inference Protocol v2, asked by a client that nobody here wrote: NVIDIA's tritonclient."""

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

HERE = Path(__file__).parent
ROOMS = HERE.parents[1] / ".oip"
"""`make test-oip` puts the client and grpcio there, each in a folder of its own."""
PYTHON = ROOMS / "client" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="tritonclient is not installed: `make test-oip` gets and runs it")
def test_tritonclient_is_answered_over_rest_and_grpc(plant: "Plant") -> None:
    plant.publish(plant.package())
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
    path = os.pathsep.join(filter(None, [str(ROOMS / "grpc"), os.environ.get("PYTHONPATH")]))
    plant.start(grpc_port=port, env={"PYTHONPATH": path})
    run = subprocess.run([PYTHON, HERE / "oip_client.py", str(plant.port), str(port)],
                         capture_output=True, text=True, timeout=60)  # fmt: skip
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    rows = [{"distance": d, "carrier": c, "hour": h, "late": late} for d, c, h, late in (
        (0.5, "UA", 7, False), (-2.0, "DL", 0, True), (3.25, "UA", 23, False))]  # fmt: skip
    wanted = plant.ask({"rows": rows})[1]["predictions"]
    forms = said["rest"]["forms"] | said["grpc"]["forms"] | {"typed": said.pop("typed")}
    assert forms.keys() == {"json", "binary", "raw", "typed"}
    for form in forms.values():
        assert form["score"] == pytest.approx([p["score"] for p in wanted])
        assert form["label"] == [p["label"] for p in wanted]
    logged = plant.wait(lambda: {r["id"] for r in plant.rows()})
    assert {i for form in forms.values() for i in form["ids"]} <= logged
    for way in said.values():
        assert way["live"] and way["ready"] and way["model_ready"]
        assert way["server"]["name"] == "fairlead" and way["model"]["inputs"][1]["datatype"] == "BYTES"
        assert "column 'carrier' is missing" in way["refused"]["message"]
    assert said["rest"]["matrix"] == pytest.approx(said["grpc"]["matrix"])
    assert (said["rest"]["refused"]["status"], said["grpc"]["refused"]["status"]) == (
        "422", "StatusCode.INVALID_ARGUMENT")  # fmt: skip
