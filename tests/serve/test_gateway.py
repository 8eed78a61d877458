import http.client
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fairlead.adapters.clock import SharedClock
from fairlead.adapters.online.sqlite import SqliteOnline
from fairlead.core.encoding import Encoding, Flag, Number
from fairlead.core.feature import FeatureView
from fairlead.core.traffic import Arm, assign

if TYPE_CHECKING:
    from tests.serve.conftest import Plant


def chance(row: dict[str, Any]) -> float:
    codes = {"UA": 0.0, "DL": 1.0}
    total = row["distance"] + codes.get(row["carrier"], -1.0) + (row["hour"] or 0) + (row["late"] or 0)
    return 1 / (1 + math.exp(-total))


class Load:
    """Callers in threads until `stop`; every answer is kept."""

    def __init__(self, plant: "Plant", callers: int = 4, body: Callable[[int], Any] | None = None):
        self.plant, self.answers, self.failures = plant, list[Any](), list[Any]()
        self._stop = threading.Event()
        self._body = body or (lambda i: {"distance": i % 7, "carrier": "UA", "hour": None, "late": None})
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.plant.port, timeout=10)
        i = 0
        while not self._stop.is_set():
            i += 1
            try:
                line.request("POST", "/predict", json.dumps(self._body(i)))
                answer = line.getresponse()
                body = answer.read()
                kept = self.answers if answer.status == 200 else self.failures
                kept.append((time.monotonic(), json.loads(body)))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append((time.monotonic(), repr(error)))
                line.close()
        line.close()

    def more(self, count: int) -> None:
        """Wait for so many more answers."""
        before = len(self.answers)
        self.plant.wait(lambda: len(self.answers) >= before + count)

    def meets(self, package: object) -> None:
        """Wait until the newest answer comes from that package."""
        self.plant.wait(lambda: self.answers and self.answers[-1][1]["package"] == str(package))


def journaled(plant: "Plant", prediction: str, count: int) -> list[dict[str, Any]]:
    """The `count` rows of one prediction, once they are written."""

    def found() -> list[dict[str, Any]]:
        rows = [r for r in plant.rows() if r["id"] == prediction]
        return rows if len(rows) == count else []

    rows: list[dict[str, Any]] = plant.wait(found)
    return rows


def replica_of(plant: "Plant") -> int:
    """The worker process of the first package."""

    def found() -> list[int]:
        packages = plant.status()["packages"].values()
        return list(next(iter(packages))["replicas"])

    return int(plant.wait(found)[0])


def in_force(plant: "Plant", epoch: int) -> None:
    plant.wait(lambda: plant.status()["epoch"] == epoch)


def test_one_row_many_rows_and_the_journal_agree(served: "Plant", row: dict[str, Any]) -> None:
    status, one = served.ask(row, X_Unit="me")
    assert status == 200
    assert one["label"] == "yes" and one["score"] == pytest.approx(chance(row), abs=1e-6)
    rows = [row | {"distance": -9.5 + i, "hour": None} for i in range(5)]
    status, many = served.ask({"rows": rows})
    assert status == 200
    for answer, asked in zip(many["predictions"], rows, strict=True):
        assert answer["score"] == pytest.approx(chance(asked), abs=1e-6)
        assert answer["label"] == ("yes" if answer["score"] >= 0.5 else "no")
    answers = {a["id"]: a for a in (one, *many["predictions"])}
    assert len(answers) == 6 and sorted(answers) == list(answers)
    served.wait(lambda: answers.keys() <= {r["id"] for r in served.rows()})
    for found in (r for r in served.rows() if r["id"] in answers):
        assert found["output"] == [answers[found["id"]]["score"]]
        assert found["package"] == answers[found["id"]]["package"]
        assert found["live"] and not found["fallback"] and not found["error"]
        assert found["propensity"] == 1.0 and found["epoch"] == 1 and 0 < found["latency"] < 5
        asked = row if found["id"] == one["id"] else rows[list(answers).index(found["id"]) - 1]
        assert json.loads(found["body"]) == asked
        assert found["unit"] == ("me" if found["id"] == one["id"] else found["id"])


def test_refusals_point_at_the_fault(served: "Plant", row: dict[str, Any]) -> None:
    del row["distance"]
    status, body = served.ask({"rows": [row | {"distance": 1}, row | {"Distance": 2}]})
    assert status == 422
    error = body["error"]
    assert (error["code"], error["pointer"]) == ("unknown", "/rows/1/Distance")
    assert "distance" in error["hint"] and len(error["id"]) == 26
    assert served.ask(b"{")[0] == 400
    assert served.ask([])[1]["error"]["code"] == "malformed"
    assert served.ask(row | {"distance": "far"})[1]["error"]["pointer"] == "/distance"
    assert served.ask({"rows": []}) == (200, {"predictions": []})
    assert served.ask({"rows": [row] * 2000})[1]["error"]["code"] in ("malformed", "body")


def test_open_inference_protocol(served: "Plant", row: dict[str, Any]) -> None:
    path = "/v2/models/m/infer"
    columns = {"distance": ("FP64", [0.5, 9.0]), "carrier": ("BYTES", ["UA", "??"]),
               "hour": ("INT64", [7, None]), "late": ("BOOL", [False, True])}  # fmt: skip
    inputs = [{"name": n, "shape": [2, 1], "datatype": t, "data": d} for n, (t, d) in columns.items()]
    status, body = served.ask({"id": "mine", "inputs": inputs}, path)
    assert status == 200 and (body["id"], body["model_name"]) == ("mine", "m")
    found = {o["name"]: o for o in body["outputs"]}
    assert found["score"]["shape"] == [2] and found["label"]["data"] == ["yes", "yes"]
    expected = [chance(row), chance({"distance": 9, "carrier": "?", "hour": 0, "late": 1})]
    assert found["score"]["data"] == pytest.approx(expected, abs=1e-6)
    x = {"name": "X", "shape": [2, 4], "datatype": "FP32", "data": [[0.5, 0, 7, 0], [9, -1, 0, 1]]}
    status, same = served.ask({"inputs": [x], "outputs": [{"name": "score"}]}, path)
    assert [o["name"] for o in same["outputs"]] == ["score"]
    assert same["outputs"][0]["data"] == pytest.approx(expected, abs=1e-6)
    inputs[2]["data"] = [7, "x"]
    error = served.ask({"inputs": inputs}, path)[1]
    assert error["pointer"] == "/inputs/2/data/1" and "'x'" in error["error"]
    assert "no such path" in served.ask(path="/v2/models/n")[1]["error"]
    x["shape"] = [2, 5]
    assert served.ask({"inputs": [x]}, path)[0] == 422
    assert served.ask({"inputs": []}, path)[0] == 422
    assert served.ask(path="/v2/health/live") == (200, {"live": True})
    assert served.ask(path="/v2/models/m/ready") == (200, {"ready": True})
    described = served.ask(path="/v2/models/m")[1]
    assert [c["datatype"] for c in described["inputs"]] == ["FP64", "BYTES", "INT64", "BOOL"]
    assert served.ask(path="/v2")[1]["name"] == "fairlead"


def test_feedback_is_journaled(served: "Plant", row: dict[str, Any]) -> None:
    prediction = served.ask(row)[1]["id"]
    told = [{"prediction": prediction, "value": True},
            {"prediction": prediction, "value": 2, "name": "reward", "at": 5.0}]  # fmt: skip
    assert served.ask({"feedback": told}, "/feedback") == (202, {"accepted": 2})
    assert served.ask(told[0], "/feedback")[0] == 202
    notes = served.wait(lambda: len(n := [e for e in served.entries() if hasattr(e, "value")]) == 3 and n)
    assert [(n.name, n.value) for n in notes] == [("label", True), ("reward", 2.0), ("label", True)]
    assert notes[1].at == 5.0 and abs(notes[0].at - time.time()) < 60
    told[1]["value"] = [1]
    error = served.ask({"feedback": told}, "/feedback")[1]["error"]
    assert error["pointer"] == "/feedback/1/value"
    assert served.ask({"prediction": "../x", "value": 1}, "/feedback")[0] == 422


def test_canary_splits_as_the_hash_says(plant: "Plant", row: dict[str, Any]) -> None:
    old, new = plant.package(), plant.package(threshold=0.4)
    route = plant.publish(Arm(old, 0.7), Arm(new, 0.3), sticky_by="user", salt="s", pins={"boss": new})
    plant.start()
    plant.wait(lambda: len(plant.status()["arms"]) == 2 and plant.status()["arms"][1]["weight"] == 0.3)
    rows = [row | {"user": f"u{i}"} for i in range(600)] + [row | {"user": "boss"}]
    answers = plant.ask({"rows": rows})[1]["predictions"]
    for asked, answer in zip(rows, answers, strict=True):
        expected = route.arms[assign(route, asked["user"]).live].package
        assert answer["package"] == str(expected)
    share = sum(a["package"] == str(new) for a in answers) / len(answers)
    assert 0.23 < share < 0.37 and answers[-1]["package"] == str(new)
    found = plant.wait(lambda: len(r := plant.rows()) == 601 and r)
    assert {(r["package"], r["propensity"]) for r in found if r["unit"] != "boss"} == {
        (str(old), 0.7), (str(new), 0.3)}  # fmt: skip
    # Without the sticky column the header names the unit, and the same unit meets the same package.
    assert len({plant.ask(row, X_Unit="k")[1]["package"] for _ in range(20)}) == 1


def test_mirrors_are_counted_exactly(plant: "Plant", row: dict[str, Any]) -> None:
    old, new = plant.package(), plant.package(threshold=0.4)
    plant.publish(Arm(old, 1.0), Arm(new, 0.0, mirror=1.0))
    plant.start(shadow_queue=8)
    plant.wait(lambda: plant.status()["arms"][1]["mirror"] == 1.0)
    with Load(plant, 4) as load:
        plant.ask({"rows": [row] * 400})
        plant.wait(lambda: len(load.answers) > 500)
    total = len(load.answers) + 400
    assert not load.failures and all(a["package"] == str(old) for _, a in load.answers)
    plant.wait(lambda: plant.status()["inside"] == 0)
    plant.wait(lambda: plant.counted("fairlead_predictions_total", 'live="false"')
               + plant.counted("fairlead_mirror_dropped_total") == total)  # fmt: skip
    assert plant.counted("fairlead_mirror_dropped_total") > 0
    assert plant.counted("fairlead_predictions_total", 'live="false"') > 0
    plant.stop()
    found = plant.rows()
    live, twins = [r for r in found if r["live"]], [r for r in found if not r["live"]]
    assert len(live) == total and {r["package"] for r in twins} == {str(new)}
    assert {r["id"] for r in twins} <= {r["id"] for r in live}


def test_a_failing_candidate_is_answered_for(plant: "Plant", row: dict[str, Any]) -> None:
    base = plant.package()
    bad = {"unseen": plant.package(unseen="error"), "nan": plant.package("nan"),
           "slow": plant.package("slow")}  # fmt: skip
    plant.publish(base, standby=tuple(bad.values()))
    plant.start(deadline_ms=800)
    plant.wait(lambda: all(p["state"] == "ready" for p in plant.status()["packages"].values()))
    asked = {"unseen": row | {"carrier": "ZZ"}, "nan": row | {"distance": -1},
             "slow": row | {"distance": 101}}  # fmt: skip
    for name, ref in bad.items():
        route = plant.publish(Arm(base, 0.0), Arm(ref, 1.0), standby=tuple(bad.values()))
        in_force(plant, route.epoch)
        status, fine = plant.ask(row)
        assert status == 200 and fine["package"] == str(ref) and "fallback" not in fine, name
        status, answer = plant.ask(asked[name])
        assert status == 200 and answer["package"] == str(base) and answer["fallback"] is True, name
        failed, stood_in = journaled(plant, answer["id"], 2)
        assert failed["package"] == str(ref) and failed["error"] and failed["live"]
        assert failed["output"] is None and not failed["fallback"]
        assert stood_in["fallback"] and stood_in["live"] and not stood_in["error"]
        assert stood_in["output"] == [answer["score"]]


def test_nobody_left_to_answer(plant: "Plant", row: dict[str, Any]) -> None:
    only = plant.package("nan")
    plant.publish(only)
    plant.start()
    status, body = plant.ask(row | {"distance": -1})
    assert (status, body["error"]["code"]) == (503, "unavailable")
    assert len(body["error"]["id"]) == 26
    plant.stop()
    plant.start(fallback="yes")
    status, body = plant.ask({"rows": [row, row | {"distance": -1}]})
    first, second = body["predictions"]
    assert status == 200 and first["package"] == str(only)
    assert second == {"id": second["id"], "package": "static", "fallback": True, "label": "yes"}
    plant.publish()
    plant.wait(lambda: plant.ask(row)[0] == 503)


def test_a_killed_replica_costs_no_request(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start()
    with Load(plant, 4) as load:
        for _ in range(4):
            os.kill(replica_of(plant), signal.SIGKILL)
            load.more(50)
        parent = int(Path(f"/proc/{replica_of(plant)}/stat").read_text().split()[3])
        os.kill(parent, signal.SIGKILL)
        load.more(300)
    assert not load.failures


def test_a_killed_gateway_is_back_at_once(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start()
    gateways, last = set(), 0.0
    with Load(plant, 2) as load:
        for _ in range(4):
            gateways.add(plant.served["gateway"])
            count = len(load.answers)
            killed = time.monotonic()
            os.kill(plant.served["gateways"][0], signal.SIGKILL)
            load.more(20)
            back = next(t for t, _ in load.answers[count + 4:] if t > killed)
            last = max(last, back - killed)
            plant.wait(lambda: plant.served["gateway"] not in gateways)
    assert len(load.failures) <= 4 * 2 and last < 1.0
    plant.stop()
    ids = [r["id"] for r in plant.rows()]
    # What a killed gateway had only in memory is lost, so its name may be missing; no id is twice.
    assert len(set(ids)) == len(ids) and len({i[10:14] for i in ids}) >= 4


def test_a_new_route_under_load_drops_nothing(plant: "Plant", row: dict[str, Any]) -> None:
    packages = [plant.package(threshold=0.5 + i / 100) for i in range(4)]
    plant.publish(packages[0])
    plant.start()
    with Load(plant, 4) as load:
        for before, after in pairwise(packages):
            plant.publish(after, standby=(before,))
            load.meets(after)
        # Back to a package that stayed warm: at once.
        plant.publish(packages[2], standby=(packages[3],))
        published = time.monotonic()
        load.meets(packages[2])
    assert not load.failures
    late = [t - published for t, a in load.answers if a["package"] == str(packages[3])]
    assert max(late) < 0.25
    # An older route is not obeyed, a forged one neither.
    route = plant.run / "route.json"
    route.write_text(route.read_text().replace(packages[2].digest, packages[3].digest))
    plant.wait(lambda: "signature" in plant.status()["trouble"])
    assert plant.ask(row)[1]["package"] == str(packages[2])


def test_candidate_that_cannot_load_gets_nothing(plant: "Plant", row: dict[str, Any]) -> None:
    good, bad = plant.package(), plant.package(threshold=0.4)
    (plant.state / "packages" / bad.digest / "model.onnx").write_bytes(b"not a model")
    plant.publish(good)
    plant.start()
    plant.publish(bad, standby=(good,))
    plant.wait(lambda: plant.status()["packages"].get(str(bad), {}).get("state") == "failed")
    assert "digest" in plant.status()["packages"][str(bad)]["reason"]
    assert plant.status()["epoch"] == 1 and plant.ask(row)[1]["package"] == str(good)
    # As a canary its share fails, is answered by the baseline, and is seen in the journal.
    plant.publish(Arm(good, 0.0), Arm(bad, 1.0))
    in_force(plant, 3)
    answer = plant.ask(row)[1]
    assert answer["package"] == str(good) and answer["fallback"] is True
    said = {r["package"]: r["error"] for r in journaled(plant, answer["id"], 2)}
    assert said[str(good)] == "" and said[str(bad)].startswith("it cannot be loaded: model.onnx of")


def test_restart_without_a_lost_request(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start()
    assert plant.process is not None
    with Load(plant, 4) as load:
        for _ in range(2):
            parents = plant.served["parents"]
            plant.process.send_signal(signal.SIGUSR1)
            replaced(plant, parents)
            load.more(100)
    assert not load.failures
    assert plant.stop() == 0 and not (plant.run / "serve.json").exists()
    assert not list(plant.run.glob("*.sock"))


def replaced(plant: "Plant", parents: list[int]) -> None:
    plant.wait(lambda: plant.served["parents"] != parents)


def test_slow_questions_do_not_outlive_their_deadline(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package("slow"))
    plant.start(deadline_ms=300)
    started = time.monotonic()
    status, body = plant.ask(row | {"distance": 101})
    took = time.monotonic() - started
    assert (status, body["error"]["code"]) == (503, "deadline") and took < 0.5
    # The replica hangs on that row; it is replaced, and the next caller is served.
    plant.wait(lambda: plant.ask(row)[0] == 200, 5.0)


def test_too_much_at_once_is_refused_at_once(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package("slow"))
    plant.start(queue=10, deadline_ms=20_000)
    with Load(plant, 1, lambda _: row | {"distance": 101}) as load:
        plant.wait(lambda: plant.status()["inside"] == 1)
        started = time.monotonic()
        status, body = plant.ask({"rows": [row] * 10})
        assert (status, body["error"]["code"]) == (429, "overload")
        assert time.monotonic() - started < 0.5
    assert plant.counted("fairlead_shed_total") == 1 and len(load.answers) >= 1


def test_a_hanging_shadow_costs_the_callers_nothing(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(base := plant.package())
    plant.start(deadline_ms=500, shadow_queue=16)
    far = row | {"distance": 101}
    with Load(plant, 2, lambda _: far) as load:
        load.more(300)
        route = plant.publish(Arm(base, 1.0), Arm(plant.package("slow"), 0.0, mirror=1.0))
        plant.wait(lambda: plant.status()["arms"][-1]["mirror"] == 1.0)
        start = len(load.answers)
        plant.wait(lambda: plant.counted("fairlead_predictions_total", 'live="false"'))
        load.more(300)
    assert not load.failures and route.epoch == 2
    assert not any("fallback" in a for _, a in load.answers[start:])
    steps = [b[0] - a[0] for a, b in pairwise(load.answers[start:])]
    assert sorted(steps)[len(steps) * 9 // 10] < 0.1
    plant.wait(lambda: plant.status()["inside"] == 0)
    plant.wait(lambda: plant.counted("fairlead_mirror_dropped_total") > 0)
    plant.stop()
    assert {r["error"] for r in plant.rows() if not r["live"]} <= {"deadline", "the replica died"}


def test_features_are_joined_as_of_the_clock(plant: "Plant", row: dict[str, Any]) -> None:
    view = FeatureView(name="weather", source="w", entity="origin", time="hour", columns=("temp",))
    clock = SharedClock.create(plant.root / "clock", 1000.0)
    with SqliteOnline(plant.state / "online.db") as store:
        store.push(view, [{"origin": "JFK", "hour": 900.0, "temp": 1.0},
                          {"origin": "JFK", "hour": 2000.0, "temp": 3.0}])  # fmt: skip
        encoding = Encoding((Number("distance"), Number("weather.temp"), Number("hour"), Flag("late")))
        plant.publish(ref := plant.package(encoding=encoding, views=(view,)))
        plant.start(env={"FAIRLEAD_CLOCK": str(clock.path)})
        asked = {"distance": 0.0, "carrier": "UA", "hour": None, "late": None}
        wanted = {"JFK": (1.0, 3.0), "XXX": (None, None), None: (None, None)}
        for place, at in enumerate((1000.0, 2000.5)):
            clock.set(at)
            for origin, temperatures in wanted.items():
                status, answer = plant.ask(asked | {"origin": origin})
                temperature = temperatures[place]
                assert status == 200 and answer["package"] == str(ref)
                assert answer["score"] == pytest.approx(1 / (1 + math.exp(-(temperature or 0))))
                (kept,) = journaled(plant, answer["id"], 1)
                assert kept["features"] == {"weather.temp": temperature} and kept["at"] == at
    assert plant.counted("fairlead_featureless_total") == 0


def test_everybody_leaves_with_the_supervisor(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start(sys.executable, "-c", "raise SystemExit(1)")
    assert plant.process is not None
    plant.wait(lambda: plant.served["controller"])
    first = plant.served["controller"]
    # A controller that only dies is started again and again, and nobody minds.
    plant.wait(lambda: plant.served["controller"] not in (first, None))
    assert plant.ask(row)[0] == 200
    family = [*plant.served["gateways"], *plant.served["parents"], replica_of(plant)]
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, "-c", SERVE, str(plant.root), "{}"], check=True,
                       stderr=subprocess.DEVNULL)  # fmt: skip
    assert plant.stop(signal.SIGKILL) == -signal.SIGKILL
    plant.wait(lambda: not any(alive(p) for p in family))
    plant.start()
    assert plant.ask(row)[0] == 200


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


SERVE = """
import sys
from pathlib import Path
from fairlead.dataplane import GatewayConfig, serve
serve(Path(sys.argv[1]), GatewayConfig(service="m", port=0), None)
"""
