"""Computes a proof of GPU in torch, one code for CPU and CUDA, and commits to it before it is told what to open.

What eats a reading is bytes that leave the device: of each product the digits alone are committed, an eighth of its
bytes, and that once a segment. They are hashed with SHA-256 by threads of the host beside the products that follow.
A hash in the device's integer operations would have to be collision-resistant, since an opened row is where the next
segment begins: linear folds are not, and the rounds of a real one cost more launches than the bytes cost transfer.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch

from libs.proofs import merkle, philox_torch
from libs.proofs.geometry import (
    CELLS_MAX,
    DIGIT_SHIFT,
    ODD,
    Cell,
    Geometry,
    Opening,
    factor_seed,
    question_seed,
)

_ROWS_AT_ONCE_CPU = 1024
_HASHING_THREADS = 4
_COLUMNS_COMPARED = 16


class Inexact(RuntimeError):
    """The device's products are not those of the integers: its math mode rounds."""


class Multiply(Protocol):
    """Rows of A (int8) times B, as int32, exactly."""

    def __call__(self, rows: torch.Tensor) -> torch.Tensor: ...


def multiplier(factor: torch.Tensor) -> Multiply:
    """The product with B (int8) on the path that is pinned for its device: int8 → int32 on CUDA, fp32 on a CPU.

    fp32 is kept from reduced precision; it would still be exact with bf16 or TF32 inputs, as long as sums are fp32.
    """
    if factor.device.type == "cuda":
        turned = factor.t().contiguous().t()
        return lambda rows: torch._int_mm(rows, turned)
    torch.set_float32_matmul_precision("highest")
    single = factor.to(torch.float32)
    return lambda rows: (rows.to(torch.float32) @ single).to(torch.int32)


def digits(products: torch.Tensor) -> torch.Tensor:
    """The digits of these products, which are used up."""
    return products.mul_(ODD).bitwise_right_shift_(DIGIT_SHIFT).to(torch.int8)


def successor(before: torch.Tensor, start: torch.Tensor, step: int) -> torch.Tensor:
    """The rows of A_step from the digits of the products before."""
    return torch.roll(start, step, dims=1).add_(before).add_(8).bitwise_and_(15).sub_(8)


def pack(found: torch.Tensor) -> torch.Tensor:
    shifted = (found + 8).to(torch.uint8)
    return shifted[:, 0::2] | (shifted[:, 1::2] << 4)


class Prover:
    """One card's side of the proof for one epoch and order: B is made once, a proof is `commit` and then `open`."""

    def __init__(self, epoch: bytes, order: int, device: torch.device) -> None:
        Geometry(order=order)
        self.epoch, self.order, self.device = epoch, order, device
        factor = philox_torch.rows(factor_seed(epoch), 0, order, order, device)
        self._multiply = multiplier(factor)
        self._at_once = _ROWS_AT_ONCE_CPU if device.type == "cpu" else order
        self._must_be_exact(factor)
        self._geometry = Geometry(order=order)
        self._start: torch.Tensor | None = None
        self._tree: merkle.Tree | None = None

    def commit(self, geometry: Geometry, node: str, card: int, nonce: bytes) -> bytes:
        """Compute every step and return the root over the digits of every segment."""
        if geometry.order != self.order:
            raise ValueError(f"this prover was prepared for order {self.order}")
        self._geometry = geometry
        seed = question_seed(self.epoch, node, card, nonce)
        self._start = start = philox_torch.rows(seed, 0, self.order, self.order, self.device)
        rows, hashed = start, list[Future[list[bytes]]]()
        with ThreadPoolExecutor(_HASHING_THREADS) as threads:
            for step in range(1, geometry.steps + 1):
                following = torch.empty_like(start) if step < geometry.steps else None
                for first in range(0, self.order, self._at_once):
                    part = slice(first, first + self._at_once)
                    found = digits(self._multiply(rows[part]))
                    if following is not None:
                        following[part] = successor(found, start[part], step)
                    if step % geometry.every == 0:
                        hashed.append(threads.submit(_leaves, pack(found)))
                rows = rows if following is None else following
        self._tree = merkle.Tree([leaf for future in hashed for leaf in future.result()])
        return self._tree.root

    def open(self, cells: tuple[Cell, ...]) -> list[Opening]:
        """Show the cells; their rows are computed again, which costs cells/order of the proof."""
        geometry, tree, start = self._geometry, self._tree, self._start
        if tree is None or start is None:
            raise ValueError("nothing has been committed")
        if len(cells) > CELLS_MAX or not all(
            0 <= cell.row < geometry.order and 0 <= cell.segment < geometry.segments for cell in cells
        ):
            raise ValueError("there is no such cell")
        befores, products = self._again(cells, start)
        return [
            Opening(
                cell=cell,
                before=befores[at].tobytes() if cell.segment else b"",
                before_path=tuple(tree.path(geometry.index(cell) - geometry.order)) if cell.segment else (),
                products=products[at].astype("<i4").tobytes(),
                path=tuple(tree.path(geometry.index(cell))),
            )
            for at, cell in enumerate(cells)
        ]

    def _again(self, cells: tuple[Cell, ...], start: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Of each cell the packed digits it begins with, and the products of its steps."""
        geometry = self._geometry
        numbers = torch.tensor([cell.row for cell in cells], device=self.device)
        # CUDA's int8 product takes more than 16 rows.
        padded = torch.nn.functional.pad(numbers, (0, max(0, 17 - len(cells))))
        first = start[padded]
        befores = np.zeros((len(cells), geometry.order // 2), np.uint8)
        products = np.zeros((len(cells), geometry.every, geometry.order), np.int32)
        rows = first
        for step in range((max(cell.segment for cell in cells) + 1) * geometry.every):
            segment, within = divmod(step, geometry.every)
            product = self._multiply(rows)
            host = product.cpu().numpy().copy()
            found = digits(product)
            rows, packed = successor(found, first, step + 1), pack(found).cpu().numpy()
            for at, cell in enumerate(cells):
                if cell.segment == segment:
                    products[at, within] = host[at]
                if cell.segment == segment + 1 and within == geometry.every - 1:
                    befores[at] = packed[at]
        return befores, products

    def _must_be_exact(self, factor: torch.Tensor) -> None:
        """Compare a corner, with the largest entry there can be, with 64-bit integers on the host."""
        rows = philox_torch.rows(factor_seed(self.epoch), 0, 32, self.order, self.device)
        rows[0] = torch.where(factor[:, 0] < 0, -8, 7).to(torch.int8)
        exact = rows.cpu().numpy().astype(np.int64) @ factor[:, :_COLUMNS_COMPARED].cpu().numpy().astype(np.int64)
        if not np.array_equal(self._multiply(rows)[:, :_COLUMNS_COMPARED].cpu().numpy(), exact):
            raise Inexact(f"matrix products on {self.device} are not exact")


def device_of(card: int) -> torch.device:
    """Card number `card`; without CUDA, card 0 is the processor."""
    if torch.cuda.is_available():
        if not 0 <= card < torch.cuda.device_count():
            raise ValueError(f"there is no card {card}")
        return torch.device("cuda", card)
    if card:
        raise ValueError(f"there is no card {card}")
    return torch.device("cpu")


def _leaves(packed: torch.Tensor) -> list[bytes]:
    rows = np.ascontiguousarray(packed.cpu().numpy())
    return [merkle.leaf(memoryview(row)) for row in rows]
