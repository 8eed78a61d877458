"""Weights: whether a file is what its name promises, told from its first bytes, before anything reads it."""

from fairlead.errors import Corrupt

__all__ = ["check_form"]

FORMS: dict[str, bytes | tuple[bytes, ...]] = {
    ".onnx": b"\x08", ".skops": b"PK\x03\x04", ".json": (b"{", b"["),
    ".lightgbm": b"tree\nversion=", ".ubj": b"{L", ".python": b"FLPY1\n",
}  # fmt: skip
"""First bytes by ending: an ONNX model begins with its version (field 1 of ModelProto, a varint),
XGBoost's UBJSON with an object whose first key has a length of 8 bytes."""


def check_form(name: str, head: bytes) -> None:
    """Raises Corrupt when a file that begins with `head` is not of the form its name promises."""
    for ending, magic in FORMS.items():
        if name.endswith(ending) and not head.lstrip(b" \n" if ending == ".json" else b"").startswith(magic):
            raise Corrupt(f"{name} does not begin as a {ending[1:]} file: {head[:8]!r}",
                          hint="nothing of it was loaded; package the model again")  # fmt: skip
