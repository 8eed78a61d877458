"""The registry client against a registry in a process of its own: TLS, logins, mounts, referrers."""

import datetime
import hashlib
import ipaddress
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fairlead.adapters.images.layout import Layout
from fairlead.adapters.registry.client import Registry
from fairlead.core.oci import BUNDLE, INDEX, MANIFEST, Descriptor, Document, Place, named, referrer
from fairlead.core.ref import canonical
from fairlead.errors import Forbidden, Invalid, Unavailable
from fairlead.flow import image
from fairlead.settings import registry_authorities

HERE = Path(__file__).parent
BLOB = bytes(range(256)) * 4096
LAYER = "application/vnd.oci.image.layer.v1.tar"


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """(certificate, key) of a registry on this machine that nobody but itself vouches for."""
    key, who = generate_private_key(SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1)).add_extension(names, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, SHA256()))  # fmt: skip
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


@contextmanager
def running(folder: Path, login: str) -> Iterator[tuple[str, Path, Path]]:
    """(host, its certificate, its log) of a registry that asks for this kind of login."""
    crt, key = certificate(folder, "registry")
    log = folder / "log"
    log.touch()
    process = subprocess.Popen([sys.executable, str(HERE / "registry_server.py"), str(crt), str(key), login, str(log)],
                               stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{process.stdout.readline().strip()}", crt, log
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def logins(folder: Path, host: str, who: bytes = b"ann:secret") -> tuple[Path, ...]:
    path = folder / "config.json"
    path.write_bytes(canonical({"auths": {host: {"auth": b64encode(who).decode()}}}))
    return (path,)


def pictured(folder: Path) -> tuple[Layout, Descriptor]:
    """A layout with an image of one layer, and something that speaks of it."""
    place, blob, config = Layout(folder), named(BLOB, LAYER), named(b"{}", "application/json")
    place.put(blob, lambda start: iter([BLOB[start:]]))
    place.put(config, lambda start: iter([b"{}"[start:]]))
    data = canonical(Document(2, MANIFEST, config=config, layers=(blob,)))
    made = named(data, MANIFEST)
    place.publish(made, data)
    index = canonical(Document(2, INDEX, manifests=(made,)))
    place.publish(named(index, INDEX), index, "v1")
    place.put(named(b"{}", "application/vnd.oci.empty.v1+json"), lambda start: iter([b"{}"]))
    place.refer(referrer(BUNDLE, [blob], named(index, INDEX), {}))
    return place, named(index, INDEX)


@pytest.mark.parametrize("login", ["basic", "token"])
def test_over_tls_with_a_login_and_blobs_mounted_from_another_repository(tmp_path: Path, login: str) -> None:
    place, made = pictured(tmp_path / "layout")
    with running(tmp_path, login) as (host, crt, log):
        one, two = (Place.parse(f"oci://{host}/{name}:v1") for name in ("team/one", "two"))
        known = logins(tmp_path, host)
        first = Registry(one, known, authorities=(crt,))
        assert image.copy(place, first, "v1", "v1") == made
        log.write_text("")
        second = Registry(two, known, near=one.name, authorities=(crt,))
        assert image.copy(place, second, "v1", "v1") == made
        sent = [line for line in log.read_text().splitlines() if line.startswith(("POST", "PATCH"))]
        assert sent and all("mount=" in line for line in sent), "no byte of a blob went twice"
        back = Layout(tmp_path / "back")
        assert image.copy(Registry(two, known, authorities=(crt,)), back, "v1") == made
        assert [e.artifact_type for e in back.referrers(made.digest)] == [BUNDLE]
        assert hashlib.sha256(b"".join(back.open(named(BLOB, LAYER)))).hexdigest() == named(BLOB, LAYER).hex
        for wrong in ((), logins(tmp_path, host, b"ann:wrong")):
            with pytest.raises(Forbidden):
                Registry(one, wrong, authorities=(crt,)).manifest("v1")


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, _ = certificate(tmp_path, "other")
    with running(tmp_path, "none") as (host, crt, log):
        place = Place.parse(f"oci://{host}/one:v1")
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            Registry(place, authorities=(other,)).manifest("v1")
        with pytest.raises(Invalid, match="no certificates in"):
            Registry(place, authorities=(log,)).manifest("v1")
        assert not log.read_text(), "nothing was asked of it"
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        kept = tmp_path / "home" / ".config" / "containers" / "certs.d" / host
        kept.mkdir(parents=True)
        (kept / "ca.crt").write_bytes(crt.read_bytes())
        assert registry_authorities(host) == (kept / "ca.crt",)
        monkeypatch.setenv("FAIRLEAD_REGISTRY_CA", str(other))
        assert not Registry(place, authorities=registry_authorities(host)).has(f"sha256:{'0' * 64}")
