"""The commands of images: build, push, pull, verify, key."""

import sys
from pathlib import Path

import msgspec
from rich.text import Text

from fairlead.api.commands.lab import newest
from fairlead.api.console import emit, next_commands, progress
from fairlead.api.present.figures import name
from fairlead.api.session import opened
from fairlead.core.oci import key_of, pem
from fairlead.errors import Missing
from fairlead.flow.image import Built
from fairlead.flow.origin import Origin

__all__ = ["build", "key", "key_in", "pull", "recipe", "verify"]


def build(
    given: Path | None, package: str, to: str, base: str, architecture: str, python: str, *, as_json: bool
) -> None:  # fmt: skip
    """Build the image of a package, and copy it to where it is wanted."""
    with opened(given) as project, progress("building", quiet=as_json) as say:
        made = newest(project, "package", package)
        built = project.build_image(made, base, architecture, python, say)
        if to:
            project.send_image(built, to, say, base)
        folder = project.state / "images"
    emit(msgspec.to_builtins(built), _view(built, to or f"{folder}:{built.tag}"), as_json=as_json)
    if not as_json and not to:
        next_commands(f"fairlead image build --base {base or 'BASE'} --to oci://registry/{made.ref.name}:v1")


def recipe(given: Path | None, package: str, target: Path, architecture: str, python: str) -> None:
    """Write a Dockerfile and all it copies."""
    with opened(given) as project:
        project.write_recipe(newest(project, "package", package), target, architecture, python)
    next_commands(f"podman build -t model {target}")


def verify(given: Path | None, source: str, key_file: Path | None, *, as_json: bool) -> None:
    """Say who speaks for an image, and what they say."""
    with opened(given) as project:
        found = project.verify_image(source, key_in(key_file))
    emit(msgspec.to_builtins(found), _spoken("verified", found), as_json=as_json)


def pull(given: Path | None, source: str, target: Path, key_file: Path | None, *, as_json: bool) -> None:
    """Lay the package of a trusted image into a folder."""
    with opened(given) as project, progress("pulling", quiet=as_json):
        found = project.pull_image(source, target, key_in(key_file))
    emit(msgspec.to_builtins(found), _spoken("pulled", found), as_json=as_json)
    if not as_json:
        next_commands(f"fairlead serve --package {target}")


def key(given: Path | None) -> None:
    """Print the key that this project's images are verified with."""
    with opened(given) as project:
        sys.stdout.write(pem(project.signer.key))


def key_in(path: Path | None) -> str:
    """The Ed25519 key (hex) in a PEM file; "" for none."""
    try:
        return key_of(path.read_text()) if path else ""
    except OSError as error:
        raise Missing(f"no key in {path}: {error.strerror}", hint="`fairlead image key` prints one") from None


def _spoken(what: str, found: Origin) -> Text:
    text = Text.assemble((what, "bold green"), "  ", name(found.package),
                         f" signed by {found.signer or 'the key given'}\n",
                         ("image  ", "dim"), found.image.digest)  # fmt: skip
    for kind in sorted(found.said):
        text.append(f"\n       {kind}", "dim")
    return text


def _view(built: Built, where: str) -> Text:
    what = f"upon {built.base[7:19]}, {len(built.lock)} wheels" if built.base else "to be mounted: it holds /models only"
    return Text.assemble(
        ("built", "bold green"), "  ", name(built.package), f" into {where}\n",
        f"{built.compressed / 1e6:,.1f} MB, {what}\n",
        ("index  ", "dim"), built.index.digest, ("\nimage  ", "dim"), built.image.digest,
    )  # fmt: skip
