"""Write the bill of materials of what serves and trains: CycloneDX 1.6 of all.lock, its hashes and who needs whom."""

import re
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from fairlead.core.bom import library

HERE = Path(__file__).parent
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)((?: \\\n +--hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)


def pins(lock: str) -> list[tuple[str, str, list[str]]]:
    """(name, version, SHA-256 of each of its files) of every line. Raises ValueError for a line
    that pins nothing, has no hash, or names a place."""
    if rest := re.sub("(?m)^#.*", "", PINNED.sub("", lock)).strip():
        raise ValueError(f"not a pinned and hashed requirement: {rest.splitlines()[0]!r}")
    return [(name, number, re.findall("[0-9a-f]{64}", hashes)) for name, number, hashes in PINNED.findall(lock)]


def bom(lock: str, release: str, at: float) -> dict[str, Any]:
    """The document. `at`: UTC seconds. Licences and needs are those of the packages installed here;
    a package that is not installed in that version has its hashes only."""
    known = {_plain(name): library(name, number) | _licence(name, number) |
             {"hashes": [{"alg": "SHA-256", "content": digest} for digest in hashes]}
             for name, number, hashes in pins(lock)}  # fmt: skip
    own = {"type": "application", "bom-ref": "fairlead", "name": "fairlead", "version": release,
           "purl": f"pkg:pypi/fairlead@{release}", "licenses": [{"license": {"id": "Apache-2.0"}}]}  # fmt: skip
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, f'fairlead {release} {at} {lock}')}",
        "metadata": {"timestamp": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "component": own},
        "components": list(known.values()),
        "dependencies": [{"ref": "fairlead", "dependsOn": _needs("fairlead", known)},
                         *({"ref": c["bom-ref"], "dependsOn": _needs(c["name"], known)} for c in known.values())],
    }  # fmt: skip


def _needs(name: str, known: dict[str, dict[str, Any]]) -> list[str]:
    try:
        lines = requires(name) or ()
    except PackageNotFoundError:
        return []
    wanted = {_plain(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]) for line in lines
              if name == "fairlead" or "extra ==" not in line}  # fmt: skip
    return sorted(known[n]["bom-ref"] for n in wanted & {*known})


def _licence(name: str, number: str) -> dict[str, Any]:
    try:
        expression = metadata(name)["License-Expression"] if version(name) == number else None
    except PackageNotFoundError:
        return {}
    return {"licenses": [{"expression": expression}]} if expression else {}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(argv: list[str]) -> int:
    """``sbom.py FILE AT``: into a file, as of a moment (UTC seconds)."""
    target, at = Path(argv[0]), float(argv[1])
    made = bom((HERE / "all.lock").read_text(), version("fairlead"), at)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    print(f"{target}: {len(made['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
