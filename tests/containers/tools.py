"""Gets what the container tests need from Debian packages, or says what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TOOLS = {"podman": "podman", "runc": "runc", "docker-registry": "docker-registry", "mmdebstrap": "mmdebstrap",
         "cosign": "cosign", "skopeo": "skopeo"}  # fmt: skip
ALSO = ("netavark", "aardvark-dns", "conmon", "catatonit", "iptables")
COSIGN = Path(".containers")
"""Where cosign is unpacked when this release of Debian has none: it is one static program."""
SID = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian sid main\n"


def missing() -> list[str]:
    """The tools that are not there."""
    path = f"{os.environ['PATH']}{os.pathsep}{COSIGN.resolve() / 'usr' / 'bin'}"
    return [tool for tool in TOOLS if shutil.which(tool, path=path) is None]


def install() -> None:
    """By apt; cosign from the archive of Debian sid."""
    wanted = [TOOLS[t] for t in missing() if t != "cosign"]
    if wanted:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted, *ALSO], check=True)
    if "cosign" in missing():
        root = COSIGN.resolve()
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        (root / "sid.list").write_text(SID)
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={root}/sid.list", "-o", "Dir::Etc::sourceparts=-",
               "-o", f"Dir::State={root}/state", "-o", "Dir::State::status=/var/lib/dpkg/status",
               "-o", f"Dir::Cache={root}/cache", "-o", "Acquire::Check-Valid-Until=false"]  # fmt: skip
        subprocess.run([*apt, "update"], check=True)
        subprocess.run([*apt, "download", "cosign"], check=True, cwd=root)
        for package in root.glob("cosign_*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, root], check=True)


if __name__ == "__main__":
    if missing() and sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get"):
        install()
    if missing():
        sys.exit(f"missing: {', '.join(missing())}. As root on Debian `make test-containers` installs them; "
                 "elsewhere install them yourself.")  # fmt: skip
