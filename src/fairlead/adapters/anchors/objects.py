"""Checkpoints in an object store: best a bucket with object lock in compliance mode."""

from fairlead.errors import Conflict, Missing, Unavailable

__all__ = ["ObjectAnchor"]


class ObjectAnchor:
    """The Anchor port over any URL that obstore opens (``s3://bucket/prefix``, ``gs://``, ``az://``)."""

    def __init__(self, url: str) -> None:
        self._url = url

    def publish(self, name: str, data: bytes) -> str:
        try:
            import obstore
            from obstore.exceptions import AlreadyExistsError, BaseError
            from obstore.store import from_url
        except ImportError as error:
            raise Missing("object stores need a library that is not installed",
                          hint='pip install "fairlead[lab]"') from error  # fmt: skip
        try:
            store = from_url(self._url)
            try:
                obstore.put(store, name, data, mode="create")
            except AlreadyExistsError:
                if bytes(obstore.get(store, name).bytes()) != data:
                    raise Conflict(f"{name} is published already, with other bytes",
                                   hint="is another project using the same place?") from None  # fmt: skip
        except (BaseError, OSError, ValueError) as error:
            raise Unavailable(f"checkpoints cannot be written to {self._url}: {error}",
                              hint="it is tried again at the next turn") from error  # fmt: skip
        return f"{self._url.rstrip('/')}/{name}"
