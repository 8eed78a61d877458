"""The flights model and two nets as containers: built, pushed, pulled, run by podman, verified by cosign."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEBIAN = (
    "base-files,libc6,libgcc-s1,libstdc++6,python3-minimal,python3.11-minimal,libpython3.11-minimal,"
    "libpython3.11-stdlib,libssl3,zlib1g,libexpat1,libffi8,libbz2-1.0,liblzma5,libsqlite3-0,libuuid1,"
    "libcrypt1,libdb5.3,libreadline8,libtinfo6,libncursesw6,libnsl2,libtirpc3,ca-certificates,media-types,"
    "tzdata,netbase"
)
UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/lib/x86_64-linux-gnu/gconv", "usr/bin/openssl", "usr/share/perl5",
          "usr/bin/dpkg", "usr/bin/dpkg-deb", "bin/tar",
          *(f"usr/lib/python3.11/{n}" for n in ("pydoc_data", "lib2to3", "idlelib", "ensurepip", "distutils")))  # fmt: skip
SMALL = 70e6
FRAMEWORKS = ROOT / ".frameworks" / "bin" / "python"
pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def say(figure: str) -> None:
    """Measured here and now; `make test-containers` shows it."""
    sys.stdout.write(f"\n{figure}\n")


def run(*command: object, **more: Any) -> str:
    done: subprocess.CompletedProcess[str] = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def fairlead(*arguments: object, cwd: Path) -> str:
    return run(sys.executable, "-m", "fairlead", *arguments, cwd=cwd)


def free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(url: str, seconds: float, token: str = "", body: bytes | None = None) -> bytes:
    """What a service answers, once it does."""
    end = time.monotonic() + seconds
    while True:
        try:
            asked = urllib.request.Request(url, body, {"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(asked, timeout=5) as answer:
                return bytes(answer.read())
        except (OSError, urllib.error.URLError):
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


@pytest.fixture(scope="module", autouse=True)
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A storage of podman's own, which goes with the test; cosign where `tools.py` left it."""
    folder = tmp_path_factory.mktemp("podman")
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=32768:32768"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')  # fmt: skip
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n')  # fmt: skip
    os.environ |= {
        "CONTAINERS_CONF": str(folder / "containers.conf"), "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "PATH": f"{os.environ['PATH']}{os.pathsep}{ROOT / '.containers' / 'usr' / 'bin'}",
    }  # fmt: skip
    yield folder
    with contextlib.suppress(AssertionError):
        run("podman", "system", "reset", "--force")


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("registry"), free()
    (folder / "registry.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n")  # fmt: skip
    process = subprocess.Popen(["docker-registry", "serve", str(folder / "registry.yml")], stderr=subprocess.DEVNULL)
    until(f"http://127.0.0.1:{port}/v2/", 20)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, trained and packaged, and a base to stand on."""
    folder = tmp_path_factory.mktemp("flights")
    shutil.copytree(ROOT / "examples" / "flights", folder, dirs_exist_ok=True)
    fairlead("run", cwd=folder)
    base = Path(os.environ.get("FAIRLEAD_TEST_BASE", ""))
    if not base.is_file():
        run("mmdebstrap", "--variant=extract", f"--include={DEBIAN}", "bookworm", folder / "base.tar",
            env=os.environ | {"SOURCE_DATE_EPOCH": "0"})  # fmt: skip
    else:
        shutil.copy(base, folder / "base.tar")
    for name in UNUSED:
        with contextlib.suppress(AssertionError):  # not every base has it
            run("tar", "--delete", "-f", folder / "base.tar", f"./{name}")
    return folder


@pytest.fixture(scope="module")
def pushed(flights: Path, registry: str) -> dict[str, Any]:
    """The image in the registry."""
    place = f"oci://{registry}/flights:v1"
    made = json.loads(fairlead("image", "build", "--base", "base.tar", "--to", place, "--json", cwd=flights))
    return {**made, "place": place, "name": f"{registry}/flights@{made['index']['digest']}"}


def test_it_is_small_the_same_again_and_after_push_and_pull(flights: Path, pushed: dict[str, Any]) -> None:
    begun = time.monotonic()
    again = json.loads(fairlead("image", "build", "--base", "base.tar", "--json", cwd=flights))
    say(f"built again in {time.monotonic() - begun:.2f} s; {again['compressed'] / 1e6:.1f} MB")
    assert again["index"] == pushed["index"]
    remote = run("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", f"docker://{pushed['name']}")
    assert remote.strip() in (pushed["index"]["digest"], pushed["image"]["digest"])
    assert again["compressed"] <= SMALL


def test_it_answers_as_nobody_without_rights(flights: Path, pushed: dict[str, Any], tmp_path: Path) -> None:
    port, token = free(), tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    tmp_path.chmod(0o755)
    run("podman", "pull", "-q", "--tls-verify=false", pushed["name"])
    shut = subprocess.run(["podman", "run", "--rm", pushed["name"]], capture_output=True, text=True, check=False)
    assert shut.returncode and "open to the network" in shut.stderr
    begun = time.monotonic()
    name = run(
        "podman", "run", "-d", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges", "-p", f"127.0.0.1:{port}:8080",
        "-v", f"{token}:/run/secrets/token:ro", "-e", "FAIRLEAD_SERVE_TOKEN_FILE=/run/secrets/token", pushed["name"],
    ).strip()  # fmt: skip
    try:
        until(f"http://127.0.0.1:{port}/v2/health/ready", 30)
        say(f"ready {time.monotonic() - begun:.2f} s after podman run (load {os.getloadavg()[0]:.1f})")
        package = flights / ".fairlead" / "packages" / pushed["package"]["digest"]
        spec = json.loads((package / "package.json").read_bytes())
        names = {c["name"] for c in spec["contract"]["columns"]}
        row = json.loads((package / "samples.json").read_bytes())["rows"][0]
        body = json.dumps({k: v for k, v in row.items() if k in names}).encode()
        answer = json.loads(until(f"http://127.0.0.1:{port}/predict", 5, "secret", body))
        assert answer["package"].endswith(pushed["package"]["digest"])
        assert 0 < answer["score"] < 1
        with pytest.raises(urllib.error.HTTPError, match="401"):
            until(f"http://127.0.0.1:{port}/predict", 0, "wrong", body)
        status = run("podman", "exec", name, "python3", "-c", "print(open('/proc/1/status').read())")
        assert "Uid:\t65534" in status and "CapEff:\t0000000000000000" in status
    finally:
        run("podman", "rm", "-f", name)


def test_the_package_can_be_mounted_as_an_image(pushed: dict[str, Any]) -> None:
    listing = run("podman", "run", "--rm", "--entrypoint", "python3", "--mount",
                  f"type=image,source={pushed['name']},destination=/mnt/m", pushed["name"],
                  "-c", "import os; print(sorted(os.listdir('/mnt/m/models')))")  # fmt: skip
    assert "package.json" in listing and "model.onnx" in listing


def test_cosign_verifies_it_and_no_other_key(flights: Path, pushed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(fairlead("image", "key", cwd=flights))
    offline = ("--insecure-ignore-tlog", "--allow-http-registry")
    run("cosign", "verify", "--key", tmp_path / "key.pem", *offline, pushed["name"])
    for kind in ("slsaprovenance1", "cyclonedx"):
        run("cosign", "verify-attestation", "--type", kind, "--key", tmp_path / "key.pem", *offline, pushed["name"])
    other = run("openssl", "genpkey", "-algorithm", "ed25519")
    (tmp_path / "other.pem").write_text(run("openssl", "pkey", "-pubout", input=other))
    with pytest.raises(AssertionError, match="failed to verify signature"):
        run("cosign", "verify", "--key", tmp_path / "other.pem", *offline, pushed["name"])


def test_it_is_pulled_only_from_who_is_trusted(flights: Path, pushed: dict[str, Any], tmp_path: Path) -> None:
    place = pushed["place"]
    fairlead("image", "pull", place, tmp_path / "laid", cwd=flights)
    assert (tmp_path / "laid" / "model.onnx").is_file()
    (tmp_path / "other.pem").write_text(
        run("openssl", "pkey", "-pubout", input=run("openssl", "genpkey", "-algorithm", "ed25519")))  # fmt: skip
    with pytest.raises(AssertionError, match="whom nobody here trusts"):
        fairlead("image", "pull", place, tmp_path / "no", "--key", tmp_path / "other.pem", cwd=flights)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("code", ["with_pytorch.py", "with_keras.py"])
def test_a_net_answers_where_its_framework_is_not(code: str, flights: Path, registry: str, tmp_path: Path) -> None:
    if not FRAMEWORKS.exists():
        pytest.skip("`make test-frameworks` installs PyTorch and TensorFlow")
    shutil.copytree(ROOT / "examples" / "digits", tmp_path, dirs_exist_ok=True)
    manifest = tmp_path / "fairlead.yaml"
    manifest.write_text(manifest.read_text().replace("with_pytorch.py", code, 1))
    run(FRAMEWORKS, "-m", "fairlead", "run", cwd=tmp_path)
    place = f"{registry}/{code.removesuffix('.py')}:v1"
    made = json.loads(run(FRAMEWORKS, "-m", "fairlead", "image", "build", "--base", flights / "base.tar",
                          "--to", f"oci://{place}", "--json", cwd=tmp_path))  # fmt: skip
    say(f"{code}: {made['compressed'] / 1e6:.1f} MB")
    assert made["compressed"] <= SMALL
    samples = json.loads((tmp_path / ".fairlead" / "packages" / made["package"]["digest"] / "samples.json").read_bytes())
    port, token = free(), tmp_path / "token"
    token.write_text("secret")
    token.chmod(0o644)
    tmp_path.chmod(0o755)
    run("podman", "pull", "-q", "--tls-verify=false", place)
    name = run("podman", "run", "-d", "--read-only", "--cap-drop=all", "-p", f"127.0.0.1:{port}:8080", "-v", f"{token}:/run/secrets/token:ro",
               "-e", "FAIRLEAD_SERVE_TOKEN_FILE=/run/secrets/token", place).strip()  # fmt: skip
    try:
        until(f"http://127.0.0.1:{port}/v2/health/ready", 30)
        answer = json.loads(until(f"http://127.0.0.1:{port}/predict", 5, "secret", json.dumps({"rows": samples["rows"]}).encode()))
        for got, wanted in zip(answer["predictions"], samples["scores"], strict=True):
            assert list(got["scores"].values()) == pytest.approx(wanted, abs=1e-5)
        found = "import importlib.util as u; print([n for n in ('torch', 'tensorflow', 'keras') if u.find_spec(n)])"
        assert run("podman", "exec", name, "python3", "-c", found).strip() == "[]"
    finally:
        run("podman", "rm", "-f", name)


PUSH = """
import sys, resource
from pathlib import Path
from fairlead.adapters.images.layout import Layout
from fairlead.adapters.registry.client import Registry
from fairlead.core.oci import Place
from fairlead.flow.image import copy_blobs
bench, big = Layout(Path(sys.argv[1])), Path(sys.argv[2])
layer = bench.layer([("models/weights", big)], packed=False)
copy_blobs(bench, Registry(Place.parse(sys.argv[3])), [layer.stored])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_half_a_gibibyte_is_pushed_in_little_memory(registry: str, tmp_path: Path) -> None:
    big = tmp_path / "weights"
    with big.open("wb") as file:
        for _ in range(512):
            file.write(os.urandom(1 << 20))
    begun = time.monotonic()
    peak = int(run(sys.executable, "-c", PUSH, tmp_path / "bench", big, f"oci://{registry}/big:v1"))
    say(f"512 MiB hashed and pushed in {time.monotonic() - begun:.1f} s, {peak / 1024:.0f} MiB resident")
    assert peak <= 64 << 10
