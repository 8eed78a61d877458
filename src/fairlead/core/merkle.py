"""A Merkle tree over the audit log: one root for all events, and a short proof for each (RFC 6962)."""

from collections.abc import Sequence
from hashlib import sha256

from fairlead.errors import Invalid

__all__ = ["Tree", "inclusion", "proves"]


class Tree:
    """Grows by one leaf at a time, keeping log2(n) digests; `root` at any moment (RFC 6962, 2.1)."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Append a leaf (its bytes, not its digest)."""
        node, size = _leaf(leaf), self.size
        while size & 1:
            node, size = _node(self._peaks.pop(), node), size >> 1
        self._peaks.append(node)
        self.size += 1

    @property
    def root(self) -> str:
        """SHA-256 (hex) of the whole tree; that of nothing for an empty one."""
        if not self._peaks:
            return sha256(b"").hexdigest()
        node = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            node = _node(peak, node)
        return node.hex()


def inclusion(leaves: Sequence[bytes], index: int) -> list[str]:
    """The audit path (hex digests, from the leaf up) of leaf `index` in a tree of `leaves`.

    Raises Invalid when there is no such leaf. RFC 6962, 2.1.1.
    """
    if not 0 <= index < len(leaves):
        raise Invalid(f"no event {index + 1}: the log has {len(leaves)}", hint="`fairlead audit log` lists them")  # fmt: skip
    level, path = [_leaf(leaf) for leaf in leaves], list[str]()
    while len(level) > 1:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling].hex())
        level = [_node(*level[i : i + 2]) if i + 1 < len(level) else level[i]
                 for i in range(0, len(level), 2)]  # fmt: skip
        index >>= 1
    return path


def proves(leaf: bytes, index: int, size: int, path: Sequence[str], root: str) -> bool:
    """Whether `path` leads from leaf `index` of a tree of `size` leaves to `root`."""
    if not 0 <= index < size:
        return False
    node, last, rest = _leaf(leaf), size - 1, [bytes.fromhex(p) for p in path]
    while last:
        if index & 1 or index < last:
            if not rest:
                return False
            node = _node(rest.pop(0), node) if index & 1 else _node(node, rest.pop(0))
        index, last = index >> 1, last >> 1
    return not rest and node.hex() == root


def _leaf(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()
