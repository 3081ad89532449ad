"""A Merkle tree of SHA-256 over a list of leaves; leaves and nodes are told apart by their first byte (RFC 6962).

A node without a sibling moves up as it is, so a tree has any number of leaves.
"""

import hashlib
from collections.abc import Sequence


def leaf(content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(b"\x00")
    digest.update(content)
    return digest.digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """All levels, so that paths are looked up; the first level is the leaves."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("A tree has at least one leaf.")
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            pairs = [_node(below[at], below[at + 1]) for at in range(0, len(below) - 1, 2)]
            self._levels.append(pairs + below[len(pairs) * 2 :])

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def path(self, index: int) -> list[bytes]:
        siblings = []
        for level in self._levels[:-1]:
            if index ^ 1 < len(level):
                siblings.append(level[index ^ 1])
            index >>= 1
        return siblings


def path_length(index: int, leaves: int) -> int:
    length = 0
    while leaves > 1:
        length += index ^ 1 < leaves
        index, leaves = index >> 1, (leaves + 1) >> 1
    return length


def root_of(digest: bytes, index: int, leaves: int, path: Sequence[bytes]) -> bytes:
    """The root that the leaf at `index` of `leaves` leads to; raises ValueError for a path of another length."""
    if len(path) != path_length(index, leaves) or any(len(sibling) != 32 for sibling in path):
        raise ValueError("The path has another length than the tree is high.")
    siblings = iter(path)
    while leaves > 1:
        if index ^ 1 < leaves:
            sibling = next(siblings)
            digest = _node(sibling, digest) if index & 1 else _node(digest, sibling)
        index, leaves = index >> 1, (leaves + 1) >> 1
    return digest
