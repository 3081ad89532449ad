"""Philox 4x32-10 in NumPy: pseudo-random matrix rows that either side can make in any order.

A counter-based generator: the block at (column, row) is a function of its counter alone, so a verifier makes the
64 rows it needs and none of the others. libs.proofs.philox_torch is the same function on a device.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
WORD = 0xFFFFFFFF
ENTRIES_PER_BLOCK = 32
"""Four words of 32 bits hold 32 entries of four bits."""

Words = NDArray[np.uint64]


class Key(NamedTuple):
    """128 bits of a seed: two words are Philox' key, two fill the upper half of the counter."""

    key: tuple[int, int]
    counter: tuple[int, int]


def key_of(seed: bytes) -> Key:
    """The key in the first 16 bytes of a digest, little-endian."""
    words = [int.from_bytes(seed[at : at + 4], "little") for at in (0, 4, 8, 12)]
    return Key((words[0], words[1]), (words[2], words[3]))


def round_keys(key: tuple[int, int]) -> list[tuple[int, int]]:
    return [((key[0] + turn * WEYL[0]) & WORD, (key[1] + turn * WEYL[1]) & WORD) for turn in range(ROUNDS)]


def block(counter: tuple[Words, Words, Words, Words], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Ten rounds over arrays of counters; words travel in 64-bit lanes, so that a product keeps its upper half."""
    c0, c1, c2, c3 = counter
    for k0, k1 in round_keys(key):
        first, second = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1, c2, c3 = (
            (second >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            second & np.uint64(WORD),
            (first >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            first & np.uint64(WORD),
        )
    return c0, c1, c2, c3


def rows(seed: bytes, numbers: NDArray[np.int64], order: int) -> NDArray[np.int8]:
    """Those rows of the `order` × `order` matrix of `seed`; entries lie in [−8, 7]."""
    key = key_of(seed)
    shape = (len(numbers), order // ENTRIES_PER_BLOCK)
    column = np.broadcast_to(np.arange(shape[1], dtype=np.uint64)[None, :], shape)
    row = np.broadcast_to(numbers.astype(np.uint64)[:, None], shape)
    upper = [np.full(shape, word, np.uint64) for word in key.counter]
    words = np.stack(block((column, row, upper[0], upper[1]), key.key), axis=-1)
    return unpack(words.astype("<u4").view(np.uint8).reshape(len(numbers), order // 2))


def unpack(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Two entries a byte, the lower four bits first; four bits hold the entry plus 8."""
    entries = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), np.int8)
    entries[..., 0::2] = packed & 15
    entries[..., 1::2] = packed >> 4
    entries -= 8
    return entries


def pack(entries: NDArray[np.int8]) -> NDArray[np.uint8]:
    shifted = (entries + 8).astype(np.uint8)
    packed: NDArray[np.uint8] = shifted[..., 0::2] | (shifted[..., 1::2] << np.uint8(4))
    return packed
