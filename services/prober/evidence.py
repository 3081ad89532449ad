"""What is published of a proof of GPU, and how anyone checks it again: no secret is needed, and none is told."""

import msgspec

from libs.proofs.geometry import Cell, Opening
from libs.proofs.verifier import Fault, Question, check_in_public
from wire.probe import ProofCell, ProofEvidence, ProofOpening, ProofQuestion


def verify_evidence(node_id: str, evidence: ProofEvidence) -> str:
    """Why the opened rows fail, by multiplying them out again; empty where they are right or none is published.

    Raises ValueError for evidence that describes no proof.
    """
    asked = evidence.question
    question = Question(
        order=asked.order,
        steps=asked.steps,
        every=asked.every,
        epoch=bytes.fromhex(asked.epoch),
        node=node_id,
        card=asked.card,
        nonce=bytes.fromhex(asked.nonce),
    )
    openings = [opened(opening) for opening in evidence.openings]
    if not openings:
        return ""
    cells = [Cell(cell.row, cell.segment) for cell in evidence.cells]
    if any(cell.row >= question.order or cell.segment >= question.segments for cell in cells):
        raise ValueError("there is no such cell")
    try:
        check_in_public(question, bytes.fromhex(evidence.root), cells, openings)
    except Fault as fault:
        return str(fault)
    return ""


def question_on_the_wire(question: Question) -> ProofQuestion:
    return ProofQuestion(
        epoch=question.epoch.hex(),
        nonce=question.nonce.hex(),
        card=question.card,
        order=question.order,
        steps=question.steps,
        every=question.every,
    )


def opened(opening: ProofOpening) -> Opening:
    return Opening(
        cell=Cell(opening.cell.row, opening.cell.segment),
        before=opening.before,
        before_path=opening.before_path,
        products=opening.products,
        path=opening.path,
    )


def opening_on_the_wire(opening: Opening) -> ProofOpening:
    cell = ProofCell(opening.cell.row, opening.cell.segment)
    return ProofOpening(**{**msgspec.structs.asdict(opening), "cell": cell})
