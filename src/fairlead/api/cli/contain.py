"""Commands around container images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.api.cli.shape import Json, Project, image_group, later

if TYPE_CHECKING:
    from fairlead.api.commands import image
else:
    (image,) = later("image")


@image_group.command("build")
def _image_build(
    package: Annotated[str, typer.Argument(metavar="PACKAGE", show_default=False, help="Digest prefix (default: the newest package).")] = "",
    base: Annotated[str, typer.Option(metavar="BASE", show_default=False, help="What it stands on: a layout, oci://registry/name@sha256:..., or a root file system (.tar). Without one the image is only to be mounted.")] = "",
    to: Annotated[str, typer.Option(metavar="LAYOUT|oci://...", show_default=False, help="Where it goes (default: it stays in .fairlead/images).")] = "",
    architecture: Annotated[str, typer.Option(metavar="NAME", help="amd64 or arm64.")] = "amd64",
    python: Annotated[str, typer.Option(metavar="X.Y", show_default=False, help="The Python of the base (default: this one's).")] = "",
    dockerfile: Annotated[Path | None, typer.Option("--dockerfile", metavar="FOLDER", show_default=False, help="Write a Dockerfile, hashed requirements.txt and all it copies instead.")] = None,
    project: Project = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write the container image of a package: no daemon, the same bytes every time."""
    if dockerfile is not None:
        return image.recipe(project, package, dockerfile, architecture, python)
    image.build(project, package, to, base, architecture, python, as_json=as_json)


Source = Annotated[str, typer.Argument(metavar="LAYOUT|oci://...", show_default=False, help="An image.")]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", show_default=False, help="Trust this public key (PEM) alone (default: environment.accepts and this project's own).")]


@image_group.command("verify")
def _image_verify(source: Source, key: Key = None, project: Project = None, as_json: Json = False) -> None:
    """Say who signed an image and what they say of it: provenance, bill of materials, gate."""
    image.verify(project, source, key, as_json=as_json)


@image_group.command("pull")
def _image_pull(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="Where the package is laid: a new folder.")],
    key: Key = None, project: Project = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Fetch the package of an image that somebody trusted signed."""
    image.pull(project, source, target, key, as_json=as_json)


@image_group.command("key")
def _image_key(project: Project = None) -> None:
    """Print the public key of this project's images, as `cosign verify --key` reads it."""
    image.key(project)
