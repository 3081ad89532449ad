"""The child that does test jobs: a question a line in, an answer a line out; it ends with its input."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from libs import proofs
from libs.proofs.geometry import Cell, Geometry, Opening
from services.node_agent.probes import declined
from wire.message import Reply
from wire.probe import Probe, ProbeAnswer, ProbeKind, ProofCell, ProofOpening, ProveGpu, ProveGpuAnswer

if TYPE_CHECKING:
    from libs.proofs.prover import Prover

DIGESTS: dict[ProbeKind, Callable[[str, int], str]] = {
    "echo": lambda seed, size: seed,
    "product": proofs.product_digest,
    "clock": proofs.chain_digest,
    "memory": proofs.memory_digest_filled,
}


def answer(query: Probe) -> ProbeAnswer:
    if query.kind == "bandwidth":
        filled = proofs.payload(query.seed, query.size).hex()
        return ProbeAnswer(probe_id=query.probe_id, kind=query.kind, payload=filled)
    if query.kind not in DIGESTS:
        raise ValueError(f"{query.kind} is not a question of this kind")
    return ProbeAnswer(probe_id=query.probe_id, kind=query.kind, digest=DIGESTS[query.kind](query.seed, query.size))


class CardProver:
    """The proofs of this child's card: it sees one, and B stays on it for as long as the epoch does."""

    def __init__(self) -> None:
        self._prover: Prover | None = None

    def answer(self, query: ProveGpu) -> ProveGpuAnswer:
        question, prover = query.question, self._prepared(query)
        if query.stage == "commit":
            geometry = Geometry(order=question.order, steps=question.steps, every=question.every)
            root = prover.commit(geometry, query.node_id, question.card, bytes.fromhex(question.nonce))
            return ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage, root=root.hex())
        if query.stage == "open":
            cells = tuple(Cell(cell.row, cell.segment) for cell in query.cells)
            shown = tuple(wired(opening) for opening in prover.open(cells))
            return ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage, openings=shown)
        return ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage)

    def _prepared(self, query: ProveGpu) -> "Prover":
        from libs.proofs.prover import Prover, device_of

        epoch, order = bytes.fromhex(query.question.epoch), query.question.order
        if self._prover is None or (self._prover.epoch, self._prover.order) != (epoch, order):
            self._prover = None  # its memory goes before more is taken
            self._prover = Prover(epoch, order, device_of(0))
        return self._prover


def wired(opening: Opening) -> ProofOpening:
    return ProofOpening(
        cell=ProofCell(opening.cell.row, opening.cell.segment),
        before=opening.before,
        before_path=opening.before_path,
        products=opening.products,
        path=opening.path,
    )


def main() -> None:
    import numpy  # noqa: F401 - loaded while the first echo is answered, so that no reading pays for it

    card = CardProver()
    for line in sys.stdin.buffer:
        query = msgspec.json.decode(line, type=Probe | ProveGpu)
        try:
            reply: Reply = card.answer(query) if isinstance(query, ProveGpu) else answer(query)
        except (ValueError, MemoryError, RuntimeError, ImportError) as error:
            reply = declined(query, str(error))
        sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
