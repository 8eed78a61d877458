import json
from pathlib import Path

import pytest

from fairlead.adapters.router.local import LocalRouter
from fairlead.core.ref import Ref
from fairlead.core.traffic import Arm, Route
from fairlead.errors import Conflict, Corrupt

ROUTE = Route(service="m", arms=(Arm(Ref("package", "m", "0" * 64), 1.0),), epoch=3, sticky_by="u")


def later(epoch: int) -> Route:
    return Route(service="m", arms=ROUTE.arms, epoch=epoch)


def test_what_is_published_is_what_everybody_reads(tmp_path: Path) -> None:
    router, other = LocalRouter(tmp_path), LocalRouter(tmp_path)
    assert other.published() is None
    router.publish(ROUTE)
    assert other.published() == ROUTE and other.published() is other.published()
    router.publish(ROUTE)
    other.publish(later(4))
    assert router.published() == later(4)
    for name in ("route.json", "key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_epochs_only_rise(tmp_path: Path) -> None:
    router = LocalRouter(tmp_path)
    router.publish(later(5))
    with pytest.raises(Conflict, match="epoch 4"):
        LocalRouter(tmp_path).publish(later(4))
    assert router.published() == later(5)
    router.publish(Route(service="m", arms=ROUTE.arms, epoch=5, salt="new"))


def test_other_hands_are_noticed_and_do_not_stand_in_the_way(tmp_path: Path) -> None:
    router = LocalRouter(tmp_path)
    router.publish(ROUTE)
    path = tmp_path / "route.json"
    honest = path.read_text()
    data = json.loads(honest)
    data["route"]["epoch"] = 99
    for forged in (json.dumps(data), honest.replace('"u"', '"v"'), honest[:-9], "{}", ""):
        path.write_text(forged)
        with pytest.raises(Corrupt):
            LocalRouter(tmp_path).published()
    router.publish(later(4))
    assert LocalRouter(tmp_path).published() == later(4)
    (tmp_path / "key").write_bytes(b"another key".ljust(32))
    with pytest.raises(Corrupt, match="signature"):
        LocalRouter(tmp_path).published()
