"""Provers that lie, for tests and for the figure of what escapes: each turns honest work into an answer that is not.

Every answer counts the cells it gets wrong, so that what is caught can be held against what theory says. A liar here
is as strong as can be: what it commits and what it shows agree, unless the lie is that they do not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from libs.proofs import merkle, philox
from libs.proofs.geometry import Cell, Opening, digits, factor_seed, successor
from libs.proofs.verifier import Question

Chance = np.random.Generator
Products = NDArray[np.int32]


class Answer:
    """What a prover commits and can show; `wrong` is how many of its cells a check would fail at."""

    def __init__(self, question: Question, products: Products, committed: NDArray[np.uint8], wrong: int) -> None:
        self.question, self.products, self.committed, self.wrong = question, products, committed, wrong
        self._tree = merkle.Tree([merkle.leaf(row.tobytes()) for row in committed.reshape(question.leaves, -1)])
        self.root = self._tree.root

    def open(self, cells: Sequence[Cell]) -> list[Opening]:
        return [self._open(cell) for cell in cells]

    def _open(self, cell: Cell) -> Opening:
        index = self.question.index(cell)
        return Opening(
            cell=cell,
            before=self.committed[cell.segment - 1, cell.row].tobytes() if cell.segment else b"",
            before_path=tuple(self._tree.path(index - self.question.order)) if cell.segment else (),
            products=self.products[cell.segment, cell.row].astype("<i4").tobytes(),
            path=tuple(self._tree.path(index)),
        )


class Work:
    """The honest products of one question (a commitment after every step), made once for many lies."""

    def __init__(self, question: Question) -> None:
        if question.every != 1:
            raise ValueError("the fleet commits after every step")
        self.question = question
        everything = np.arange(question.order)
        self.start = philox.rows(question.seed(), everything, question.order)
        self.factor = philox.rows(factor_seed(question.epoch), everything, question.order).astype(np.float32)
        self.products = np.empty((question.segments, question.order, question.order), np.int32)
        self.follow(self.products, everything, {})

    def follow(self, products: Products, numbers: NDArray[np.int64], forged: dict[int, Products]) -> None:
        """Compute these rows of every step in `products`; a step in `forged` takes what stands there."""
        rows = self.start[numbers]
        for step in range(self.question.segments):
            made = forged.get(step)
            products[step, numbers] = (rows.astype(np.float32) @ self.factor).astype(np.int32) if made is None else made
            if step + 1 < self.question.segments:
                rows = successor(digits(products[step, numbers]), self.start[numbers], step + 1)

    def answer(self, products: Products, wrong: int) -> Answer:
        return Answer(self.question, products, philox.pack(digits(products)), wrong)


Cheat = Callable[[Work, Chance], Answer]


def honest(work: Work, chance: Chance) -> Answer:
    return work.answer(work.products, 0)


def skips(fraction: float) -> Cheat:
    """Computes this fraction of the rows of the first step and invents the rest, which it then follows rightly."""

    def cheat(work: Work, chance: Chance) -> Answer:
        # Of all cells, those of every step: skipped rows are drawn anew for each step, the last one first.
        products, skipped = work.products.copy(), 0
        order, segments = work.question.order, work.question.segments
        for number, steps in _drawn(order, segments, round((1 - fraction) * order * segments), chance).items():
            forged = {step: _invented(work, 1, chance) for step in steps}
            work.follow(products, np.array([number]), forged)
            skipped += len(steps)
        return work.answer(products, skipped)

    return cheat


def one_wrong_row(work: Work, chance: Chance) -> Answer:
    return skips(1 - 1 / work.question.leaves)(work, chance)


def right_rows_too_late(work: Work, chance: Chance) -> Answer:
    """Commits to nothing in particular and computes the opened rows when it is asked for them."""
    committed = chance.integers(0, 256, philox.pack(digits(work.products)).shape, np.uint8)
    return Answer(work.question, work.products, committed, work.question.leaves)


def cheap_rows(fraction: float) -> Cheat:
    """Structured matrix: invents digits for which A of the next step has all rows alike, and multiplies one of them.

    It saves twice what it breaks: 1 − `fraction` of all cells, half of them broken.
    """

    def cheat(work: Work, chance: Chance) -> Answer:
        products, order = work.products.copy(), work.question.order
        numbers = chance.choice(order, round((1 - fraction) * order), replace=False)
        wanted = chance.integers(-8, 8, order, np.int8)
        missing = wanted - np.roll(work.start[numbers], 1, axis=1)
        forged = _with_digits(((missing + 8) & 15) - 8)
        work.follow(products, numbers, {0: forged})
        return work.answer(products, len(numbers))

    return cheat


def precomputed(work: Work, chance: Chance) -> Answer:
    """Work done ahead, for a nonce it expected."""
    return _of_another(work, nonce=chance.bytes(32))


def replayed(work: Work, chance: Chance) -> Answer:
    """What another node answered to the same nonce."""
    return _of_another(work, node="U" + "B" * 55)


def shared_card(work: Work, chance: Chance) -> Answer:
    """A second name on one card: it has the time for one proof and gives it for both."""
    return _of_another(work, card=work.question.card + 1)


def rounds(work: Work, chance: Chance) -> Answer:
    """A faster, inexact math mode: sums are kept to ten bits."""
    return work.answer(work.products & ~np.int32(7), work.question.leaves)


def drops_columns(work: Work, chance: Chance) -> Answer:
    """Computes all rows, but not the last hundredth of their columns."""
    products, left = work.products.copy(), -(work.question.order // 100)
    products[..., left:] = _invented(work, 1, chance)[0, left:]
    return work.answer(products, work.question.leaves)


def garbage(work: Work, chance: Chance) -> Answer:
    return work.answer(chance.integers(-(2**31), 2**31, work.products.shape, np.int32), work.question.leaves)


FLEET: dict[str, Cheat] = {
    "honest": honest,
    "skips 50 % of the rows": skips(0.5),
    "skips 10 %": skips(0.9),
    "skips 5 %": skips(0.95),
    "skips 1 %": skips(0.99),
    "one wrong row": one_wrong_row,
    "right rows after the commitment": right_rows_too_late,
    "structured matrix, saves 20 %": cheap_rows(0.8),
    "structured matrix, saves all": cheap_rows(0.0),
    "precomputed seed": precomputed,
    "replays another's answer": replayed,
    "one card behind two names": shared_card,
    "rounded sums": rounds,
    "drops 1 % of the columns": drops_columns,
    "garbage": garbage,
}


def escape(leaves: int, wrong: int, opened: int) -> float:
    """The chance that none of the opened cells is one of the wrong ones; (1 − wrong/leaves)^opened for many leaves."""
    return math.comb(leaves - wrong, opened) / math.comb(leaves, opened)


_others: dict[tuple[Any, ...], Answer] = {}


def _of_another(work: Work, **changes: Any) -> Answer:
    """The honest answer to a question that was not asked; a nonce is drawn once, to save the work of many trials."""
    key = (work.question, *changes)
    if key not in _others:
        asked = {name: getattr(work.question, name) for name in work.question.__struct_fields__}
        other = Work(Question(**{**asked, **changes}))
        _others[key] = Answer(work.question, other.products, philox.pack(digits(other.products)), work.question.leaves)
    return _others[key]


def _drawn(order: int, segments: int, count: int, chance: Chance) -> dict[int, list[int]]:
    """Row → steps of `count` cells drawn at random."""
    drawn: dict[int, list[int]] = {}
    for index in chance.choice(order * segments, count, replace=False):
        drawn.setdefault(int(index) % order, []).append(int(index) // order)
    return drawn


def _invented(work: Work, rows: int, chance: Chance) -> Products:
    """Rows that look like products: normal, with the spread that products have."""
    spread = 21.5 * math.sqrt(work.question.order)
    return np.clip(chance.normal(0, spread, (rows, work.question.order)), -1000, 1000).astype(np.int32)


def _with_digits(wanted: NDArray[np.int8]) -> Products:
    """Products with these digits: one small number for each of the sixteen."""
    known = {int(digit): number for number, digit in enumerate(digits(np.arange(64, dtype=np.int32)))}
    made: Products = np.vectorize(known.__getitem__, otypes=[np.int32])(wanted)
    return made
