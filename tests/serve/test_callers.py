"""Who may call the gateway: no door opens to a stranger, and a revoked token ends within a second."""

import itertools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from msgspec.structs import replace

from fairlead.adapters.router.register import LocalRegister
from fairlead.core.identity import Pass, Passes, fingerprint
from fairlead.errors import Corrupt, Invalid
from fairlead.serve.config import GatewayConfig
from fairlead.serve.endpoint import Callers, Table
from fairlead.serve.http import Connection, Exchange, Limits, Site
from fairlead.serve.metrics import Metrics
from fairlead.serve.service import Service
from tests.api.test_control import METHODS, Line, head, tricks

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

FILE, WEB, OLGA, LATE = "file-token", "fl_aaaa_web", "fl_bbbb_olga", "fl_cccc_late"
PUBLIC = {"/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/loans/ready"}


def entry(token: str, *doors: Any, until: float = 100.0) -> Pass:
    return Pass(digest=fingerprint(token.encode()), doors=doors, expires_at=until)


REGISTER = Passes(asks=True, passes=(entry(WEB, "caller"), entry(OLGA, "operator"), entry(LATE, "caller", until=5.0)))


def table(handler: Callable[[Exchange], None], *, chat: bool) -> Table[Exchange]:
    """The doors that the gateway declares, with other rooms behind them."""
    config = GatewayConfig(service="loans", chat=chat)
    inside = cast(Any, SimpleNamespace(config=config, predict=handler, infer=handler))
    board = cast(Any, SimpleNamespace(metrics=Metrics(gateway="x")))
    declared = Service(inside, cast(Any, None), cast(Any, None), board).table().all()
    return Table(replace(e, handler=handler) for e in declared)


@pytest.mark.parametrize("chat", [False, True])
def test_no_spelling_of_a_door_opens_to_a_stranger(chat: bool) -> None:
    """Every route x method x identity x spelling (promise S7)."""
    asked = 0
    callers = Callers("127.0.0.1", FILE)
    assert callers.admit(REGISTER, 50.0) and not callers.admit(REGISTER, 50.0)
    site = Site(table(lambda e: e.ok(b"{}"), chat=chat), callers, Limits(), lambda: "id", lambda e, r: None)
    gateway = cast(Any, SimpleNamespace(site=site))
    known: dict[str, set[str]] = {"": set(), FILE: set(), f"Bearer {LATE}": set(), "Bearer x": set(), "Bearer ": set(),
                                  f"Basic {WEB}": set(), f"Bearer {FILE}": {"caller", "operator"},
                                  f"Bearer {WEB}": {"caller"}, f"Bearer {OLGA}": {"operator"}}  # fmt: skip
    for endpoint in site.table.all():
        for spelling, method, (token, may) in itertools.product(tricks(endpoint.path), METHODS, known.items()):
            asked += 1
            exact = spelling.partition("?")[0] == endpoint.path and method == endpoint.method
            opens = exact and (endpoint.path in PUBLIC or endpoint.access in may)
            assert (head(gateway, method, spelling, token)[9:12] == b"200") == opens, (method, spelling, token)
    assert {e.path for e in site.table.all() if e.access == "anyone"} == PUBLIC and asked > 10_000


def bounded(limits: Limits) -> Any:
    """A gateway with bounds for each caller, whose doors all answer."""
    callers = Callers("127.0.0.1", FILE, REGISTER, limits.rate)
    site = Site(table(lambda e: e.ok(b"{}"), chat=False), callers, limits, lambda: "id", lambda e, r: None)
    return SimpleNamespace(site=site)


def test_a_token_that_asks_too_often_waits_and_others_do_not() -> None:
    gateway = bounded(Limits(rate=0.01))
    assert head(gateway, "GET", "/status", f"Bearer {OLGA}")[9:12] == b"200"
    for _ in range(2):  # the second head is remembered
        said = head(gateway, "GET", "/status", f"Bearer {OLGA}")
        assert said[9:12] == b"429" and b"retry-after: 100\r\n" in said and b'"code":"rate"' in said
    assert head(gateway, "GET", "/status", f"Bearer {FILE}")[9:12] == b"200"
    assert all(head(gateway, "GET", "/v2/health/live", "")[9:12] == b"200" for _ in range(9)), "probes are free"
    assert all(head(gateway, "GET", "/status", "Bearer guess")[9:12] == b"401" for _ in range(9)), "nobody learns a token"
    free = bounded(Limits())
    assert all(head(free, "GET", "/status", f"Bearer {OLGA}")[9:12] == b"200" for _ in range(99))


class Far(Line):
    """A caller at an address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self.address = address

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.address, 1) if name == "peername" else default


def test_one_address_does_not_take_all_connections() -> None:
    site = bounded(Limits(per_peer=2)).site

    def come(address: str) -> tuple[Connection, bytes]:
        connection, line = Connection(site), Far(address)
        connection.connection_made(line)
        return connection, line.heard

    kept = [come("10.0.0.1")[0] for _ in range(2)]
    more, heard = come("10.0.0.1")
    assert heard[9:12] == b"503" and b'"code":"connections"' in heard
    assert not come("10.0.0.2")[1] and not come("2001:db8::1")[1] and not come("2001:db8::2")[1] and come("2001:db8::3")[1]
    for connection in (more, kept[0]):
        connection.connection_lost(None)
    assert not come("10.0.0.1")[1] and come("10.0.0.1")[1]


def test_the_network_needs_a_token_or_a_register() -> None:
    with pytest.raises(Invalid, match="open to the network"):
        Callers("0.0.0.0", "", Passes(asks=False, passes=REGISTER.passes))
    assert Callers("0.0.0.0", "", REGISTER).refuse("caller", "any", "", f"Bearer {WEB}".encode()) is None
    assert Callers("127.0.0.1").refuse("caller", "localhost", "", b"") is None, "a laptop asks nobody"


def test_a_revoked_token_ends_within_a_second(plant: "Plant", row: dict[str, Any]) -> None:
    register = LocalRegister(plant.run)
    until = time.time() + 3600
    register.publish(Passes(asks=True, passes=(entry(WEB, "caller", until=until), entry(OLGA, "operator", until=until))))
    plant.publish(plant.package())
    plant.start()
    shown = {"Authorization": f"Bearer {WEB}"}
    assert plant.ask(row, **shown)[0] == 200 and plant.ask(row)[0] == 401
    assert plant.ask(path="/status", **shown)[0] == 401
    assert plant.ask(path="/status", Authorization=f"Bearer {OLGA}")[0] == 200
    register.publish(Passes(asks=True, passes=()))
    began = time.monotonic()
    while plant.ask(row, **shown)[0] == 200:
        assert time.monotonic() - began < 1.0
    assert plant.ask(row, **shown)[0] == 401


def test_a_register_that_other_hands_wrote_is_not_obeyed(tmp_path: Any) -> None:
    register = LocalRegister(tmp_path)
    assert register.published() is None
    register.publish(REGISTER)
    assert LocalRegister(tmp_path).published() == REGISTER
    path = tmp_path / "callers.json"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes().replace(b'"caller"', b'"operator"', 1))
    with pytest.raises(Corrupt, match="signature"):
        register.published()
    register.publish(REGISTER)
    assert register.published() == REGISTER
