"""Runs the test jobs: claims the nodes that are due, asks each its questions, and records the verdict."""

import asyncio
import secrets
import time
from collections.abc import Callable

import msgspec
from nats.errors import NoRespondersError

from libs import proofs
from libs.bus.reach import Reach
from libs.clock import now_ms
from services.prober.domain.cadence import next_test_at
from services.prober.domain.score import score_millionths
from services.prober.domain.verdict import Answered, Failure, Proved, failed, judge
from services.prober.proving import Proofs, Unmeasurable, legible
from services.prober.settings import Settings
from services.prober.store import Rows
from wire.message import Message, encode
from wire.probe import Probe, ProbeAnswer, ProbeFailed, ProbeKind, ProbePassed, ProbeUnmeasurable
from wire.values import ProbeReadings

_IDLE_SECONDS = 0.5
_CLAIMED_AT_ONCE = 8
_ANSWER_BYTES_MAX = 2 * proofs.PAYLOAD_BYTES_MAX + 4096
_ECHOES = 3


class Examiner:
    def __init__(self, reach: Reach, settings: Settings) -> None:
        self._reach = reach
        self._settings = settings
        self._chance = secrets.SystemRandom()
        self._proofs = Proofs(reach, settings)

    async def run(self) -> None:
        """Test one node after another: two at once would share the machine that measures them."""
        while True:
            claimed = await self._reach.transact(f"claim-{now_ms()}", self._claim)
            for node_id, cards in claimed:
                await self._examine(node_id, cards)
            if not claimed:
                await asyncio.sleep(_IDLE_SECONDS)

    async def _claim(self, rows: Rows) -> list[tuple[str, int]]:
        due = await rows.due(_CLAIMED_AT_ONCE)
        for node_id, suspect in due:
            mean = self._settings.probe_interval_seconds
            await rows.draw(node_id, next_test_at(rows.now, mean, suspect, self._chance.random()))
        return [(node_id, await rows.cards(node_id)) for node_id, _ in due]

    async def _examine(self, node_id: str, cards: int) -> None:
        probe_id, seed = f"prb_{secrets.token_hex(8)}", secrets.token_hex(32)
        answers: list[Answered] = []
        proved: list[Proved] | Failure = []
        try:
            for kind, size in self._questions():
                answers.append(await self._ask(node_id, probe_id, kind, seed, size))
                if failed(answers[-1]):
                    break
            finding: ProbeReadings | Failure | Unmeasurable = judge(answers)
            if isinstance(finding, ProbeReadings) and (cards or self._settings.probe_proof_order):
                floor_ms = min(answer.elapsed_ms for answer in answers if answer.kind == "echo")
                proved = await self._proofs.ask(node_id, probe_id, cards, floor_ms)
                finding = judge(answers, proved) if isinstance(proved, list) else proved
        except Unmeasurable as why:
            finding = why
        verdict, event = _verdict(node_id, probe_id, seed, finding, proved if isinstance(proved, list) else [])

        async def record(rows: Rows) -> None:
            await rows.record_verdict(probe_id, node_id, verdict, seed, answers)
            rows.say(event)

        await self._reach.transact(probe_id, record)

    def _questions(self) -> list[tuple[ProbeKind, int]]:
        settings = self._settings
        echoes: list[tuple[ProbeKind, int]] = [("echo", 0)] * _ECHOES
        return [
            *echoes,
            ("product", settings.probe_product_order),
            ("clock", settings.probe_chain_links),
            ("memory", settings.probe_memory_mb),
            ("bandwidth", settings.probe_payload_bytes),
        ]

    async def _ask(self, node_id: str, probe_id: str, kind: ProbeKind, seed: str, size: int) -> Answered:
        """One question on our clock; the expected answer is computed before, so that checking delays nothing."""
        expected = await asyncio.to_thread(EXPECTED[kind], seed, size)
        query = Probe(
            id=f"{probe_id}-{kind}", at=now_ms(), node_id=node_id, probe_id=probe_id, kind=kind, seed=seed, size=size
        )
        body, started = encode(query), time.perf_counter()
        try:
            reply = await self._reach.nats.request(query.subject(), body, timeout=self._settings.probe_answer_seconds)
        except NoRespondersError as error:
            raise Unmeasurable("The node is not connected.") from error
        except TimeoutError:
            reply = None
        elapsed_ms = (time.perf_counter() - started) * 1000
        if reply is None and not self._reach.nats.is_connected:
            raise Unmeasurable("The prober lost its own connection.")
        answer = _decoded(reply.data, probe_id, kind) if reply is not None else None
        return Answered(
            kind=kind,
            size=size,
            expected=expected,
            answered=None if answer is None else (answer.payload or answer.digest),
            declined=answer.declined if answer else "",
            elapsed_ms=elapsed_ms,
        )


EXPECTED: dict[ProbeKind, Callable[[str, int], str]] = {
    "echo": lambda seed, size: seed,
    "product": proofs.product_digest,
    "clock": proofs.chain_digest,
    "memory": proofs.memory_digest_checked,
    "bandwidth": lambda seed, size: proofs.payload(seed, size).hex(),
}


def _decoded(body: bytes, probe_id: str, kind: ProbeKind) -> ProbeAnswer:
    """What the node sent, or an answer that is wrong: whatever cannot be read, or not be kept, fails the test."""
    wrong = ProbeAnswer(probe_id=probe_id, kind=kind, digest="unreadable")
    if not legible(body, _ANSWER_BYTES_MAX):
        return wrong
    try:
        answer = msgspec.json.decode(body, type=ProbeAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return wrong
    return answer if (answer.probe_id, answer.kind) == (probe_id, kind) else wrong


def _verdict(
    node_id: str, probe_id: str, seed: str, finding: ProbeReadings | Failure | Unmeasurable, proved: list[Proved]
) -> tuple[str, Message]:
    if isinstance(finding, ProbeReadings):
        score = score_millionths(finding)
        evidence = tuple(one.proof for one in proved)
        return "passed", ProbePassed(
            node_id=node_id, probe_id=probe_id, readings=finding, score_millionths=score, proofs=evidence
        )
    if isinstance(finding, Failure):
        return "failed", ProbeFailed(
            node_id=node_id,
            probe_id=probe_id,
            kind=finding.kind,
            reason=finding.reason,
            detail=finding.detail,
            seed=seed,
            expected=finding.answer.expected[:64],
            answered=(finding.answer.answered or "")[:64],
            elapsed_ms=round(finding.answer.elapsed_ms),
            proof=finding.proof,
        )
    return "unmeasurable", ProbeUnmeasurable(node_id=node_id, probe_id=probe_id, detail=str(finding))
