"""What a proof of GPU computes: its sizes, its seeds, and how each factor follows from the product before it.

    B            of the epoch, A₀ of one card and one question; entries in [−8, 7], so |A·B| ≤ 64·order < 2²⁴ is
                 exact in int8 → int32, in fp16, bf16 and TF32 with fp32 accumulation, and in fp32
    C_t          = A_t · B, for t = 0 … steps − 1
    digits(C)    the upper four bits of C · ODD mod 2³², in [−8, 7]
    A_{t+1}      = digits(C_t) + A₀ turned by t + 1 columns, wrapped to [−8, 7]

Why not the lowest bits of C: they are linear over the integers mod 16, so that powers of B, computed once an epoch,
would let a prover jump ahead or spread the steps over many cards. The upper bits of a product are a rounding, which
no linear map follows. Why A₀ comes in at every step: a prover who breaks one step may choose that row freely, and
must not gain cheap rows (all alike, mostly zero) for all the steps that follow.

After every `every` steps (a *segment*) the digits of all rows are committed. A *cell* is one row of one segment.
"""

import hashlib

import msgspec
import numpy as np
from numpy.typing import NDArray

ODD = 0x9E3779B1 - (1 << 32)
"""2³² divided by the golden ratio, as a signed 32-bit word: neighbouring products get unlike digits."""

DIGIT_SHIFT = 28
ORDER_STEP = 64
ORDER_MAX = 65_536
STEPS_MAX = 65_536
CELLS_MAX = 256


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of one proof; raises ValueError when they do not fit."""

    order: int
    steps: int = 1
    every: int = 1

    def __post_init__(self) -> None:
        if not ORDER_STEP <= self.order <= ORDER_MAX or self.order % ORDER_STEP:
            raise ValueError(f"order must be a multiple of {ORDER_STEP} up to {ORDER_MAX}")
        if not 1 <= self.steps <= STEPS_MAX or not 1 <= self.every <= self.steps or self.steps % self.every:
            raise ValueError("steps must be a positive multiple of every")

    @property
    def segments(self) -> int:
        return self.steps // self.every

    @property
    def leaves(self) -> int:
        return self.segments * self.order

    @property
    def bound(self) -> int:
        """The largest magnitude an entry of a product can have."""
        return 64 * self.order

    @property
    def operations(self) -> int:
        return 2 * self.order**3 * self.steps

    @property
    def opening_bytes(self) -> int:
        """What one opened cell takes: the products of its steps, the digits before, and two paths."""
        return self.every * self.order * 4 + self.order // 2 + 2 * 32 * self.leaves.bit_length()

    def index(self, cell: "Cell") -> int:
        return cell.segment * self.order + cell.row


class Cell(msgspec.Struct, frozen=True):
    """One row of one segment."""

    row: int
    segment: int


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """What a prover shows of a cell: the committed digits it began with, the products of its steps, the paths.

    `products` are 32-bit little-endian integers; `before` is empty in the first segment, which begins with A₀.
    """

    cell: Cell
    before: bytes = b""
    before_path: tuple[bytes, ...] = ()
    products: bytes
    path: tuple[bytes, ...]


def factor_seed(epoch: bytes) -> bytes:
    """Seed of B."""
    return hashlib.sha256(b"B|" + epoch).digest()


def question_seed(epoch: bytes, node: str, card: int, nonce: bytes) -> bytes:
    """Seed of A₀: another for each node, card and question, and unknown before the nonce is."""
    return hashlib.sha256(b"|".join((b"A", epoch, node.encode(), str(card).encode(), nonce))).digest()


def digits(products: NDArray[np.int32]) -> NDArray[np.int8]:
    with np.errstate(over="ignore"):
        return ((products * np.int32(ODD)) >> np.int32(DIGIT_SHIFT)).astype(np.int8)


def successor(before: NDArray[np.int8], start: NDArray[np.int8], step: int) -> NDArray[np.int8]:
    """Rows of A_step from the digits of the product before and the same rows of A₀."""
    turned = np.roll(start, step, axis=-1)
    return ((before + turned + np.int8(8)) & np.int8(15)) - np.int8(8)
