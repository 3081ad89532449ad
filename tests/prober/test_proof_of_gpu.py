"""The proof of GPU: both sides compute the same, an honest proof passes, and no single change does."""

import hashlib
import random
from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.proofs import merkle, philox, philox_torch
from libs.proofs.geometry import Cell, Geometry, Opening, digits, factor_seed, successor
from libs.proofs.prover import Prover, device_of
from libs.proofs.prover import digits as digits_on_device
from libs.proofs.prover import pack as pack_on_device
from libs.proofs.prover import successor as successor_on_device
from libs.proofs.verifier import Fault, Question, Secret, check, check_in_public, draw_cells

EPOCH = hashlib.sha256(b"epoch").digest()
NONCE = hashlib.sha256(b"nonce").digest()
ORDER = 64
CHAIN = Question(order=ORDER, steps=6, every=2, epoch=EPOCH, node="UNODE", card=0, nonce=NONCE)
ONE = msgspec.structs.replace(CHAIN, steps=1, every=1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def secret() -> Secret:
    return Secret(EPOCH, ORDER, random.Random(1).randbytes(4 * ORDER))


def proved(question: Question, count: int = 24) -> tuple[bytes, tuple[Cell, ...], list[Opening]]:
    prover = Prover(question.epoch, question.order, CPU)
    root = prover.commit(question, question.node, question.card, question.nonce)
    cells = draw_cells(question, count, random.Random(2))
    return root, cells, prover.open(cells)


def test_philox_gives_the_words_of_its_authors() -> None:
    # Known answers of Random123: philox4x32 10.
    vectors = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, words in vectors:
        c0, c1, c2, c3 = (np.array([word], np.uint64) for word in counter)
        assert tuple(int(word[0]) for word in philox.block((c0, c1, c2, c3), key)) == words


@given(st.binary(min_size=32, max_size=32), st.integers(1, 8), st.lists(st.integers(0, 2**20), min_size=1, max_size=9))
def test_torch_makes_the_rows_of_numpy(seed: bytes, blocks: int, numbers: list[int]) -> None:
    order = 64 * blocks
    ours = philox.rows(seed, np.array(numbers), order)
    theirs = philox_torch.rows_at(seed, torch.tensor(numbers), order).numpy()
    assert ours.dtype == theirs.dtype == np.int8
    assert np.array_equal(ours, theirs)
    assert ours.min() >= -8 and ours.max() <= 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_cuda_makes_the_bytes_of_the_processor() -> None:
    roots = []
    for device in (CPU, torch.device("cuda", 0)):
        prover = Prover(EPOCH, 512, device)
        roots.append(prover.commit(Geometry(order=512, steps=4, every=2), "UNODE", 0, NONCE))
    assert roots[0] == roots[1]


def test_entries_are_spread_evenly() -> None:
    entries = philox.rows(factor_seed(EPOCH), np.arange(256), 256)
    counts = np.bincount(entries.ravel() + 8, minlength=16)
    expected = entries.size / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7  # chi-square, 15 degrees of freedom, 0.1 %


@given(st.integers(0, 2**32 - 1), st.integers(0, 200))
def test_both_sides_follow_a_product_alike(chance: int, step: int) -> None:
    drawn = np.random.default_rng(chance)
    products = drawn.integers(-64 * ORDER, 64 * ORDER, (3, ORDER), np.int32)
    start = drawn.integers(-8, 8, (3, ORDER), np.int8)
    there = digits_on_device(torch.from_numpy(products.copy()))
    rows = successor_on_device(there, torch.from_numpy(start), step)
    assert np.array_equal(there.numpy(), digits(products))
    assert np.array_equal(rows.numpy(), successor(digits(products), start, step))
    assert np.array_equal(pack_on_device(there).numpy(), philox.pack(digits(products)))
    assert np.array_equal(philox.unpack(philox.pack(digits(products))), digits(products))
    # Exact integers, with no trust in how NumPy wraps.
    one = ((int(products[0, 0]) * 0x9E3779B1) % 2**32) >> 28
    assert int(digits(products)[0, 0]) == (one if one < 8 else one - 16)


@given(st.integers(1, 70), st.data())
def test_merkle_paths_lead_to_the_root(leaves: int, data: st.DataObject) -> None:
    tree = merkle.Tree([merkle.leaf(bytes([number])) for number in range(leaves)])
    index = data.draw(st.integers(0, leaves - 1))
    other = data.draw(st.integers(0, 255).filter(lambda number: number != index))
    path = tree.path(index)
    assert merkle.root_of(merkle.leaf(bytes([index])), index, leaves, path) == tree.root
    assert merkle.root_of(merkle.leaf(bytes([other])), index, leaves, path) != tree.root
    with pytest.raises(ValueError):
        merkle.root_of(merkle.leaf(bytes([index])), index, leaves, [*path, b"\0" * 32])


@pytest.mark.parametrize("question", [ONE, CHAIN])
def test_an_honest_proof_passes_with_and_without_the_secret(question: Question, secret: Secret) -> None:
    root, cells, openings = proved(question)
    assert {cell.segment for cell in cells} == set(range(question.segments))
    check(question, secret, root, cells, openings)
    check_in_public(question, root, cells, openings)


def test_the_proof_is_the_product_of_the_integers(secret: Secret) -> None:
    _, _, openings = proved(ONE, ORDER)
    a = philox.rows(ONE.seed(), np.arange(ORDER), ORDER).astype(object)
    b = philox.rows(factor_seed(EPOCH), np.arange(ORDER), ORDER).astype(object)
    for opening in openings:
        assert np.frombuffer(opening.products, "<i4").tolist() == (a[opening.cell.row] @ b).tolist()
    assert secret.y.tolist() == (b @ secret.r.astype(object)).tolist()


CHANGES: dict[str, Callable[[Opening], Opening]] = {
    "one entry": lambda opening: _with_products(opening, lambda products: products.__setitem__(5, products[5] + 1)),
    "two entries that cancel in a sum": lambda opening: _with_products(
        opening, lambda products: (products.__setitem__(5, products[5] + 1), products.__setitem__(6, products[6] - 1))
    ),
    "an entry out of bounds": lambda opening: _with_products(opening, lambda p: p.__setitem__(0, -(2**31))),
    "another row's path": lambda opening: msgspec.structs.replace(opening, path=opening.path[::-1]),
    "a path that is too long": lambda opening: msgspec.structs.replace(opening, path=(*opening.path, b"\0" * 32)),
    "no products": lambda opening: msgspec.structs.replace(opening, products=b""),
    "other digits before": lambda opening: msgspec.structs.replace(opening, before=bytes(ORDER // 2)),
    "another cell": lambda opening: msgspec.structs.replace(opening, cell=Cell(ORDER - 1, 9)),
}


def _with_products(opening: Opening, change: Callable[[np.ndarray], object]) -> Opening:
    products = np.frombuffer(opening.products, "<i4").copy()
    change(products)
    return msgspec.structs.replace(opening, products=products.tobytes())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("question", [ONE, CHAIN])
def test_each_change_of_one_opening_is_caught(change: str, question: Question, secret: Secret) -> None:
    root, cells, openings = proved(question)
    for at in (0, len(openings) - 1):
        changed = list(openings)
        changed[at] = CHANGES[change](openings[at])
        with pytest.raises(Fault):
            check(question, secret, root, cells, changed)
        with pytest.raises(Fault):
            check_in_public(question, root, cells, changed)


def test_openings_of_another_nonce_node_card_or_epoch_fail(secret: Secret) -> None:
    for field, other in (("nonce", b"x" * 32), ("node", "UOTHER"), ("card", 1)):
        root, cells, openings = proved(msgspec.structs.replace(CHAIN, **{field: other}))
        with pytest.raises(Fault, match=r"not A·B"):
            check(CHAIN, secret, root, cells, openings)
    root, cells, openings = proved(msgspec.structs.replace(CHAIN, epoch=b"y" * 32))
    with pytest.raises(Fault, match=r"not A·B"):
        check(CHAIN, secret, root, cells, openings)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            Opening,
            cell=st.builds(Cell, st.integers(-(2**40), 2**40), st.integers(-5, 2**40)),
            before=st.binary(max_size=64),
            before_path=st.lists(st.binary(max_size=40), max_size=9).map(tuple),
            products=st.binary(max_size=600),
            path=st.lists(st.binary(max_size=40), max_size=9).map(tuple),
        ),
        max_size=4,
    ),
    st.booleans(),
)
def test_garbage_is_a_fault_and_nothing_else(secret: Secret, openings: list[Opening], sized: bool) -> None:
    cells = draw_cells(CHAIN, 2, random.Random(3))
    if sized:  # past the length checks, so that what is behind them meets garbage too
        openings = [
            msgspec.structs.replace(
                opening,
                cell=cells[at % 2],
                products=(opening.products or b"\x80").ljust(8 * ORDER, b"\xff")[: 8 * ORDER],
                before=opening.before.ljust(ORDER // 2, b"\7")[: ORDER // 2] if cells[at % 2].segment else b"",
            )
            for at, opening in enumerate(openings)
        ]
    with pytest.raises(Fault):
        check(CHAIN, secret, b"\0" * 32, cells, openings)


@pytest.mark.parametrize(
    ("order", "steps", "every"), [(0, 1, 1), (65, 1, 1), (2**17, 1, 1), (64, 0, 1), (64, 5, 2), (64, 2, 0)]
)
def test_sizes_of_a_proof_are_bounded(order: int, steps: int, every: int) -> None:
    with pytest.raises(ValueError):
        Geometry(order=order, steps=steps, every=every)


def test_a_prover_answers_no_nonsense() -> None:
    prover = Prover(EPOCH, ORDER, CPU)
    with pytest.raises(ValueError):
        prover.open((Cell(0, 0),))
    prover.commit(ONE, "UNODE", 0, NONCE)
    for cell in (Cell(ORDER, 0), Cell(-1, 0), Cell(0, 1)):
        with pytest.raises(ValueError):
            prover.open((cell,))
    with pytest.raises(ValueError):
        prover.commit(Geometry(order=128), "UNODE", 0, NONCE)
    with pytest.raises(ValueError):
        device_of(99)


def test_all_cells_are_drawn_alike() -> None:
    chance, seen = random.Random(4), np.zeros(CHAIN.leaves)
    for _ in range(2_000):
        cells = draw_cells(CHAIN, 8, chance)
        assert len(set(cells)) == 8
        for cell in cells:
            seen[CHAIN.index(cell)] += 1
    assert abs(seen - 2_000 * 8 / CHAIN.leaves).max() < 6 * (2_000 * 8 / CHAIN.leaves) ** 0.5
