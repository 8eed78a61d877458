"""S3: a package of any Python runs only walled in, and only where a person said so, signed, in time."""

import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.adapters.keys.local import LocalSigner
from fairlead.core import trust
from fairlead.core.artifact import PackageSpec
from fairlead.core.ref import Ref, canonical, digest
from fairlead.core.schema import Schema
from fairlead.core.trust import Trust
from fairlead.flavors.python import FILE, MAGIC, Bundle
from fairlead.serve import landlock, seccomp
from tests.faults.conftest import Ground
from tests.security.payloads import MAGIC as ACTS
from tests.security.payloads import PAYLOADS
from tests.serve.conftest import COLUMNS, ROW, encoding

walled = pytest.mark.skipif(landlock.version() < 6 or not seccomp.known(), reason="Linux 6.12 with Landlock is needed")
HOSTILE = (Path(__file__).parent / "own_code.py").read_text()
KIND = "import numpy as np\ndef load(folder):\n    return lambda rows: np.full(len(rows), 0.75)\n"
HERE = "here"
LOOSE = "tests.security.test_own_code.loose"
BLIND = "tests.security.test_own_code.blind"
NO_KERNEL = "tests.security.test_own_code.no_kernel"


def loose(process: str) -> None:
    """Planted: a worker opens the model before it gives up forking and memory."""
    from fairlead.serve import sandbox

    inner: Any = sandbox.Sandbox
    inner.tighten = lambda self: None


def blind(process: str) -> None:
    """Planted: any word that lies beside the package will do."""
    from fairlead import dataplane

    inner: Any = dataplane
    inner.verify = lambda key, data, signature: True


def no_kernel(process: str) -> None:
    """No bug: a kernel without Landlock."""
    landlock.version = lambda: 0


class Den(Ground):
    """Has packages of Python, and a key to trust them with."""

    def own(self, source: str) -> Ref:
        kept = Bundle(entry="model.py", sources={"model.py": source}, state={"state.txt": b"kept"})
        data = MAGIC + msgspec.msgpack.encode(kept)
        spec = PackageSpec(model=Ref("model", "own", digest(source)), flavor="python", task="binary", classes=("no", "yes"),
                           contract=Schema(columns=COLUMNS), encoding=encoding(), files={FILE: sha256(data).hexdigest()})  # fmt: skip
        ref = Ref("package", "own", digest(spec))
        folder = self.state / "packages" / ref.digest
        folder.mkdir(parents=True)
        (folder / "package.json").write_bytes(canonical(spec))
        (folder / FILE).write_bytes(data)
        return ref

    @property
    def signer(self) -> LocalSigner:
        return LocalSigner(self.root / "key")

    def trust(self, ref: Ref, about: Ref | None = None, lasts: float = 3600.0, signer: LocalSigner | None = None) -> None:
        now, by = time.time(), signer or self.signer
        word = Trust(package=about or ref, by="ann", reason="read", environment=HERE, at=now, expires_at=now + lasts)
        folder = self.state / "trust"
        folder.mkdir(exist_ok=True)
        (folder / trust.place(ref.digest)).write_bytes(trust.seal(word, by.key, by.sign))

    def begin(self, **changes: Any) -> None:
        (self.root / "fairlead.yaml").write_text("secret: canary")
        self.start(keys={HERE: self.signer.key}, replica_memory_mb=128, **changes)

    def serves(self, ref: Ref) -> bool:
        """Whether its replicas come up."""
        self.publish(ref)
        self.begin()
        return bool(self.known(ref, "replicas"))

    def refusal(self, ref: Ref) -> str:
        """Why a package is not served, beside one that goes on answering."""
        good = self.package("sum", name="m")
        assert self.serves(good)
        self.publish(ref)
        reason = str(self.known(ref, "reason"))
        assert self.ask(ROW)[1]["package"] == str(good)
        return reason


@pytest.fixture
def den(tmp_path: Path, bug: str) -> Iterator[Den]:
    made = Den(tmp_path, bug)
    yield made
    made.stop()


@pytest.fixture
def bug() -> str:
    return ""


def attacked(den: Den) -> list[str]:
    """What a hostile package gained: while it was opened ("opening"), and while it answered."""
    ref = den.own(HOSTILE)
    den.trust(ref)
    assert den.serves(ref)

    def gains(number: int) -> bool:
        status, said = den.ask({**ROW, "distance": ACTS, "hour": number})
        assert status == 200, said
        return bool(said["score"])

    return [name for i, name in [(100, "opening"), *enumerate(PAYLOADS)] if gains(i)]


@walled
def test_a_hostile_package_gains_nothing_not_even_while_it_is_opened(den: Den) -> None:
    """All 33, forking and 4 GB among them."""
    assert attacked(den) == []
    assert not list(den.run.glob("planted*")) and (den.run / "route.json").exists()


FORKS = "import os\nif (pid := os.fork()) == 0:\n    os._exit(0)\nos.waitpid(pid, 0)\n" + KIND


@pytest.mark.security
@walled
def test_opening_may_not_fork_and_says_so(den: Den) -> None:
    ref = den.own(FORKS)
    den.trust(ref)
    assert "model.py fails: PermissionError" in den.refusal(ref)


@pytest.mark.security
@walled
@pytest.mark.parametrize("bug", [LOOSE])
def test_opened_outside_a_tight_sandbox_it_forks(den: Den) -> None:
    """The twin."""
    ref = den.own(FORKS)
    den.trust(ref)
    assert den.serves(ref)


def test_nobody_trusts_it(den: Den) -> None:
    ref = den.own(KIND)
    assert f"`fairlead trust {ref.digest[:12]} --reason TEXT`" in den.refusal(ref)


@pytest.mark.security
def test_a_word_about_another_package_does_not_count(den: Den) -> None:
    ref = den.own(KIND)
    den.trust(ref, about=den.own(KIND + "# other"))
    assert "beside the package is in package/own@" in den.refusal(ref)


@pytest.mark.security
def test_a_word_of_somebody_else_does_not_count(den: Den) -> None:
    ref = den.own(KIND)
    den.trust(ref, signer=LocalSigner(den.root / "other"))
    assert "is not signed by this project" in den.refusal(ref)


@pytest.mark.security
def test_trust_ends(den: Den) -> None:
    ref = den.own(KIND)
    den.trust(ref, lasts=-1.0)
    assert "the trust of ann in the package has expired" in den.refusal(ref)


def forged(den: Den, ref: Ref) -> None:
    """Trust in another package, made over to this one: the signature stays."""
    other = den.own(KIND + "# other")
    den.trust(other)
    word = (den.state / "trust" / trust.place(other.digest)).read_bytes()
    payload = msgspec.json.decode(word)["payload"]
    changed = b64encode(b64decode(payload).replace(other.digest.encode(), ref.digest.encode())).decode()
    (den.state / "trust" / trust.place(ref.digest)).write_bytes(word.replace(payload.encode(), changed.encode()))


@pytest.mark.security
def test_a_changed_word_does_not_count(den: Den) -> None:
    ref = den.own(KIND)
    forged(den, ref)
    assert "the signature of here does not hold" in den.refusal(ref)


@pytest.mark.security
@walled
@pytest.mark.parametrize("bug", [BLIND])
def test_without_the_signature_it_would(den: Den) -> None:
    """The twin."""
    ref = den.own(KIND)
    forged(den, ref)
    assert den.serves(ref)


@pytest.mark.security
@pytest.mark.parametrize("bug", [NO_KERNEL])
def test_without_walls_only_by_an_explicit_word(den: Den) -> None:
    ref = den.own(KIND)
    den.trust(ref)
    assert "cannot wall in the code" in den.refusal(ref)
    den.stop()
    den.begin(walls=False)
    assert den.wait(lambda: den.ask(ROW)[1].get("score") == 0.75)
