"""Work whose right answer follows from a seed: computed by the one who is tested and again by the one who tests.

Everything is exact and the same on any machine: pseudo-random bytes are SHAKE-256, products are integers.
Answers are SHA-256 digests in hexadecimal.
"""

import hashlib
from collections.abc import Callable

PRODUCT_ORDER_MAX = 4096
MEMORY_MB_MAX = 65_536
CHAIN_LINKS_MAX = 5_000_000
PAYLOAD_BYTES_MAX = 512 * 1024
_BLOCK_BYTES = 64 * 1024
_WALK_STEPS = 64


def _stream(seed: str, label: str, size: int) -> bytes:
    return hashlib.shake_256(f"{seed}/{label}".encode()).digest(size)


def product_digest(seed: str, order: int) -> str:
    """Digest of C = A·B, both `order` × `order` with entries in [−8, 7] taken from the low half of each byte.

    |C| ≤ 64·order < 2²⁴, so single precision computes it exactly on any card or CPU; C is hashed row by row as
    32-bit little-endian integers.
    """
    import numpy

    if not 1 <= order <= PRODUCT_ORDER_MAX:
        raise ValueError(f"order must lie in 1…{PRODUCT_ORDER_MAX}")

    def matrix(label: str) -> "numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float32]]":
        entries = numpy.frombuffer(_stream(seed, label, order * order), numpy.uint8) & 15
        return (entries.astype(numpy.float32) - 8).reshape(order, order)

    product = matrix("A") @ matrix("B")
    return hashlib.sha256(product.astype("<i4").tobytes()).hexdigest()


def chain_digest(seed: str, links: int) -> str:
    """The last of `links` digests, each the SHA-256 of the one before: work that cannot run in parallel."""
    if not 1 <= links <= CHAIN_LINKS_MAX:
        raise ValueError(f"links must lie in 1…{CHAIN_LINKS_MAX}")
    link = bytes.fromhex(seed)
    for _ in range(links):
        link = hashlib.sha256(link).digest()
    return link.hex()


def _block(seed: str, index: int) -> bytes:
    return _stream(seed, f"block {index}", _BLOCK_BYTES)


def _walk(seed: str, blocks: int, block: Callable[[int], bytes | bytearray]) -> str:
    place = hashlib.sha256(f"{seed}/walk".encode()).digest()
    for _ in range(_WALK_STEPS):
        index = int.from_bytes(place[:8], "little") % blocks
        place = hashlib.sha256(place + block(index)).digest()
    return place.hex()


def memory_digest_filled(seed: str, megabytes: int) -> str:
    """Fill `megabytes` MB with blocks made from the seed, then walk them: where to step next is in the block before."""
    if not 1 <= megabytes <= MEMORY_MB_MAX:
        raise ValueError(f"megabytes must lie in 1…{MEMORY_MB_MAX}")
    blocks = megabytes * 1024 * 1024 // _BLOCK_BYTES
    filled = bytearray(blocks * _BLOCK_BYTES)
    for index in range(blocks):
        filled[index * _BLOCK_BYTES : (index + 1) * _BLOCK_BYTES] = _block(seed, index)
    return _walk(seed, blocks, lambda index: filled[index * _BLOCK_BYTES : (index + 1) * _BLOCK_BYTES])


def memory_digest_checked(seed: str, megabytes: int) -> str:
    """The same digest for the one who checks: only the blocks on the walk are made."""
    return _walk(seed, megabytes * 1024 * 1024 // _BLOCK_BYTES, lambda index: _block(seed, index))


def payload(seed: str, size: int) -> bytes:
    """`size` bytes that nothing but the seed predicts, so that they cannot be compressed on the way."""
    if not 0 <= size <= PAYLOAD_BYTES_MAX:
        raise ValueError(f"size must lie in 0…{PAYLOAD_BYTES_MAX}")
    return _stream(seed, "payload", size)
