"""Whether the answers of one test job are right and in time, and what they measure."""

from collections.abc import Sequence

import msgspec

from wire.probe import ProbeKind, ProofEvidence
from wire.values import ProbeReadings, Reason

CYCLES_PER_LINK = 1_400
"""One link of the hash chain in cycles of the reference node (3.0 GHz, one SHA-256 a call): makes c comparable."""

_FLOOR_MS = 0.5


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """One question and what came back; `answered` is None when nothing came within the time."""

    kind: ProbeKind
    size: int
    expected: str
    answered: str | None
    elapsed_ms: float
    declined: str = ""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    kind: ProbeKind
    reason: Reason
    detail: str
    answer: Answered
    proof: ProofEvidence | None = None


class Proved(msgspec.Struct, frozen=True, kw_only=True):
    """A proof of GPU that was right: exact operations, and the time from the question to the commitment."""

    operations: int
    elapsed_ms: float
    proof: ProofEvidence


def judge(answers: list[Answered], proved: Sequence[Proved] = ()) -> ProbeReadings | Failure:
    """Readings if every answer is right, the first failure otherwise.

    What the cards proved at the same time is added up; where nothing was proved, the one product is read.
    The shortest echo is the floor under every time: what the way there and back costs is not the node's doing.
    """
    for answer in answers:
        failure = failed(answer)
        if failure is not None:
            return failure
    by_kind = {answer.kind: answer for answer in answers}
    floor = min(answer.elapsed_ms for answer in answers if answer.kind == "echo")

    def milliseconds(kind: ProbeKind) -> float:
        return max(by_kind[kind].elapsed_ms - floor, _FLOOR_MS)

    order = by_kind["product"].size
    gflops = [one.operations / max(one.elapsed_ms - floor, _FLOOR_MS) / 1e6 for one in proved]
    return ProbeReadings(
        gflops=round(sum(gflops) if gflops else 2 * order**3 / milliseconds("product") / 1e6),
        cpu_mhz=round(by_kind["clock"].size * CYCLES_PER_LINK / milliseconds("clock") / 1e3),
        memory_mb=by_kind["memory"].size,
        bandwidth_kb_s=round(by_kind["bandwidth"].size / milliseconds("bandwidth")),
    )


def failed(answer: Answered) -> Failure | None:
    """Why this answer fails the test job, or None."""
    if answer.answered is None:
        detail = f"The {answer.kind} question was not answered within {answer.elapsed_ms:.0f} ms."
        return Failure(kind=answer.kind, reason=Reason.no_answer, detail=detail, answer=answer)
    if answer.declined:
        detail = f"The node declined the {answer.kind} question: {answer.declined[:200]}"
        return Failure(kind=answer.kind, reason=Reason.no_answer, detail=detail, answer=answer)
    if answer.answered != answer.expected:
        detail = f"The answer to the {answer.kind} question is not the one its seed gives."
        return Failure(kind=answer.kind, reason=Reason.wrong_answer, detail=detail, answer=answer)
    return None
