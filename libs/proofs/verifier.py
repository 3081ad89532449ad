"""Checks a proof of GPU in NumPy: paths, the opened rows of A₀, and C·r == A·y with a secret r.

r stays with the verifier. A row that is not A·B passes with probability 2⁻²⁴ at most: two values of one entry of r
can not both fit it. All sums stay below 2⁶³ for orders up to 65,536, so 64-bit integers are exact.
"""

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from libs.proofs import merkle, philox
from libs.proofs.geometry import Cell, Geometry, Opening, digits, factor_seed, question_seed, successor

_SECRET_BITS = 24
_ROWS_AT_ONCE = 256

Wide = NDArray[np.int64]


class Secret:
    """What the verifier keeps for one epoch and order: r, and y = B·r. Making it takes O(order²), once."""

    def __init__(self, epoch: bytes, order: int, random_bytes: bytes) -> None:
        """`random_bytes` are 4 · order bytes that no prover knows."""
        Geometry(order=order)
        if len(random_bytes) != 4 * order:
            raise ValueError("r takes four random bytes an entry")
        self.epoch, self.order = epoch, order
        drawn = np.frombuffer(random_bytes, "<u4") >> (32 - _SECRET_BITS)
        self.r = drawn.astype(np.int64)
        self.y = np.concatenate([_times(epoch, order, first, self.r) for first in range(0, order, _ROWS_AT_ONCE)])

    def __repr__(self) -> str:
        return f"Secret(order={self.order})"


def _times(epoch: bytes, order: int, first: int, r: NDArray[np.int64]) -> NDArray[np.int64]:
    numbers = np.arange(first, min(first + _ROWS_AT_ONCE, order))
    # |entry| · r · order < 2³ · 2²⁴ · 2¹⁶ < 2⁵³: exact in double precision, where NumPy has a fast product.
    exact = philox.rows(factor_seed(epoch), numbers, order).astype(np.float64) @ r.astype(np.float64)
    return exact.astype(np.int64)


class Fault(ValueError):
    """A proof fails: the sentence why, and the opening that shows it, if it is one opening that does."""

    def __init__(self, why: str, opening: Opening | None = None, *, unreadable: bool = False) -> None:
        super().__init__(why)
        self.opening, self.unreadable = opening, unreadable


class Question(Geometry, frozen=True, kw_only=True):
    """Everything that says which proof is meant."""

    epoch: bytes
    node: str
    card: int
    nonce: bytes

    def seed(self) -> bytes:
        return question_seed(self.epoch, self.node, self.card, self.nonce)


def draw_cells(geometry: Geometry, count: int, chance: random.Random) -> tuple[Cell, ...]:
    """`count` different cells, each as likely as any other."""
    drawn = chance.sample(range(geometry.leaves), min(count, geometry.leaves))
    return tuple(Cell(row=index % geometry.order, segment=index // geometry.order) for index in drawn)


class _Rule(NamedTuple):
    """How a product is compared: `shown(C)` must be `expected(A)`."""

    shown: Callable[[Wide], Wide]
    expected: Callable[[Wide], Wide]


def check(question: Question, secret: Secret, root: bytes, cells: Sequence[Cell], openings: Sequence[Opening]) -> None:
    """Raise Fault unless `openings` show exactly `cells` of the proof that `root` commits to."""
    if (secret.epoch, secret.order) != (question.epoch, question.order):
        raise ValueError("this secret is of another epoch or order")
    rule = _Rule(lambda products: products @ secret.r, lambda rows: rows @ secret.y)
    _check(question, rule, root, cells, openings)


def check_in_public(question: Question, root: bytes, cells: Sequence[Cell], openings: Sequence[Opening]) -> None:
    """The same without the secret: the opened rows are multiplied with B, which takes O(order²) and any machine.

    So r needs no publication, and a verdict can be checked again at once, by anyone.
    """
    numbers = np.arange(question.order)
    parts = [numbers[first : first + _ROWS_AT_ONCE] for first in range(0, question.order, _ROWS_AT_ONCE)]
    seed = factor_seed(question.epoch)
    factor = np.concatenate([philox.rows(seed, part, question.order).astype(np.float32) for part in parts])
    # |C| < 2²⁴: exact in single precision.
    rule = _Rule(lambda products: products, lambda rows: (rows.astype(np.float32) @ factor).astype(np.int64))
    _check(question, rule, root, cells, openings)


def _check(question: Question, rule: _Rule, root: bytes, cells: Sequence[Cell], openings: Sequence[Opening]) -> None:
    before, products = _read(question, root, cells, openings)
    _multiplied_out(question, rule, openings, before, products)
    for opening, ends in zip(openings, philox.pack(digits(products[:, -1])), strict=True):
        _under(question, root, opening, ends.tobytes(), question.index(opening.cell), opening.path)


def _read(
    question: Question, root: bytes, cells: Sequence[Cell], openings: Sequence[Opening]
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The digits each segment begins with and its products, once their sizes, bounds and paths are right."""
    if len(openings) != len(cells):
        raise Fault("Another number of rows was opened than was asked for.", unreadable=True)
    half, whole = question.order // 2, 4 * question.every * question.order
    before = np.zeros((len(cells), half), np.uint8)
    products = np.empty((len(cells), question.every, question.order), np.int32)
    for at, (cell, opening) in enumerate(zip(cells, openings, strict=True)):
        if opening.cell != cell:
            raise Fault("Another row was opened than was asked for.", unreadable=True)
        if len(opening.products) != whole or len(opening.before) != (half if cell.segment else 0):
            raise Fault("An opened row has another length than the proof gives it.", unreadable=True)
        products[at] = np.frombuffer(opening.products, "<i4").reshape(question.every, question.order)
        if cell.segment:
            before[at] = np.frombuffer(opening.before, np.uint8)
            index = question.index(cell) - question.order
            _under(question, root, opening, opening.before, index, opening.before_path)
    outside = (products > question.bound) | (products < -question.bound)
    if outside.any():
        at = int(np.flatnonzero(outside.any(axis=(1, 2)))[0])
        raise Fault("An opened product is larger than any product can be.", openings[at])
    return before, products


def _multiplied_out(
    question: Question,
    rule: _Rule,
    openings: Sequence[Opening],
    before: NDArray[np.uint8],
    products: NDArray[np.int32],
) -> None:
    """Walk all opened segments at once; the rows of each step follow from the product that was opened before."""
    cells = [opening.cell for opening in openings]
    numbers = np.array([cell.row for cell in cells], np.int64)
    start = philox.rows(question.seed(), numbers, question.order)
    rows, following = start.copy(), philox.unpack(before)
    for within in range(question.every):
        for at, cell in enumerate(cells):
            if step := cell.segment * question.every + within:
                rows[at] = successor(following[at], start[at], step)
        wrong = rule.shown(products[:, within].astype(np.int64)) != rule.expected(rows.astype(np.int64))
        if wrong.any():
            at = int(np.flatnonzero(wrong.reshape(len(cells), -1).any(axis=1))[0])
            raise Fault(f"Row {cells[at].row} of the product is not A·B.", openings[at])
        following = digits(products[:, within])


def _under(
    question: Question, root: bytes, opening: Opening, content: bytes, index: int, path: Sequence[bytes]
) -> None:
    """The row must be the one that was committed."""
    try:
        committed = merkle.root_of(merkle.leaf(content), index, question.leaves, path) == root
    except ValueError as error:
        raise Fault(str(error), unreadable=True) from error
    if not committed:
        raise Fault(f"Row {opening.cell.row} is not the one that was committed.", opening)
