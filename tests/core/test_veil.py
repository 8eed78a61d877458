"""The veil: what is hidden is nowhere in the bytes that reach the disk."""

import msgspec
from hypothesis import given
from hypothesis import strategies as some

from fairlead.core.journal import Batch, frame
from fairlead.core.manifest import LogSection
from fairlead.core.veil import UNKEPT, veil

LOG = LogSection(redact=("name",), drop=("iban",))
KEY = b"k" * 32


def batch(bodies: list[bytes], **more: object) -> Batch:
    n = len(bodies)
    given = {
        "service": "s", "package": "p", "at": 1.0, "epoch": 1, "live": True, "propensity": 1.0,
        "ids": [f"id{i}" for i in range(n)], "units": [f"id{i}" for i in range(n)], "bodies": bodies,
        "features": [None] * n, "outputs": [[0.5]] * n, "errors": [""] * n, "fallback": [False] * n,
        "latencies": [0.1] * n,
    }  # fmt: skip
    return Batch(**(given | more))  # type: ignore[arg-type]


@given(name=some.text(min_size=12, max_size=40, alphabet="abcdefgh"), iban=some.integers(10**18, 10**19))
def test_no_hidden_value_is_in_any_byte(name: str, iban: int) -> None:
    change = veil(LOG, KEY, sticky_by="name")
    assert change is not None
    body = msgspec.json.encode({"name": name, "iban": iban, "amount": 3})
    after = change(batch([body], units=[name], errors=[f"unseen {name} of {iban}"],
                         features=[{"name": name, "iban": iban, "v.mean": 0.5}]))  # fmt: skip
    written = frame(after)
    assert name.encode() not in written and str(iban).encode() not in written
    assert iban.to_bytes(8, "big") not in written
    row = msgspec.json.decode(after.bodies[0])
    assert row["amount"] == 3 and row["name"].startswith("hmac:") and "iban" not in row
    assert after.units == [row["name"]] and after.features[0] == {"name": row["name"], "v.mean": 0.5}


def test_equal_values_stay_equal_and_another_key_tells_nothing() -> None:
    bodies = [b'{"name":"Ada"}', b'{"name":"Ada","x":1}', b'{"name":null}']
    one, other = veil(LOG, KEY), veil(LOG, b"o" * 32)
    assert one is not None and other is not None
    a, b, c = (msgspec.json.decode(body) for body in one(batch(bodies)).bodies)
    assert a["name"] == b["name"] and c["name"] is None
    assert msgspec.json.decode(other(batch(bodies)).bodies[0])["name"] != a["name"]


def test_what_cannot_be_read_is_not_written() -> None:
    change = veil(LOG, KEY)
    assert change is not None
    assert change(batch([b'[["Ada"]]', b"Ada"])).bodies == [b"{}", b"{}"]


def test_a_sample_keeps_inputs_of_its_share_and_answers_of_all() -> None:
    change = veil(LogSection(sample=0.25), KEY)
    assert change is not None
    before = batch([b'{"x":1}'] * 4000, features=[{"f": 1}] * 4000)
    after = change(before)
    kept = [body != UNKEPT for body in after.bodies]
    assert 900 < sum(kept) < 1100
    assert [f is not None for f in after.features] == kept
    assert (after.ids, after.outputs, after.latencies) == (before.ids, before.outputs, before.latencies)
    assert change(before) == after, "a function of the id"


def test_nothing_to_hide_is_no_work() -> None:
    assert veil(LogSection(retention="90d"), KEY) is None
