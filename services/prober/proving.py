"""Asks the cards of a node for a proof of GPU, all at once, and checks what they show.

The prober is a target: an answer is read up to a limit, by a strict schema, within the node's budget of time, and
everything that cannot be read fails.
"""

import asyncio
import secrets
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

import msgspec
from nats.errors import NoRespondersError

from libs.bus.reach import Reach
from libs.clock import now_ms
from libs.proofs.geometry import Cell, Opening
from libs.proofs.verifier import Fault, Question, Secret, check, draw_cells
from services.prober.domain.verdict import Answered, Failure, Proved
from services.prober.evidence import opened, opening_on_the_wire, question_on_the_wire
from services.prober.settings import Settings
from wire.message import encode
from wire.probe import (
    PROOF_BYTES_MAX,
    ProofCell,
    ProofEvidence,
    ProofStage,
    ProveGpu,
    ProveGpuAnswer,
)
from wire.values import Reason

T = TypeVar("T")

_ANSWER_BYTES_MAX = 1 << 20
_PUBLISHED_BYTES_MAX = 128 * 1024
"""Of an opened row in an event, which may have 256 KiB in all."""


class Unmeasurable(Exception):
    """Our side could not ask; the node is neither praised nor blamed."""


class _Refused(Exception):
    """A card's answer fails the proof."""

    def __init__(self, reason: Reason, detail: str, opening: Opening | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.opening = reason, detail, opening


class Epochs:
    """The seed of B and what is secret about it: one r for each order, made when it is first needed."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._until = seconds, 0.0
        self._seed = b""
        self._secrets: dict[int, Secret] = {}

    async def secret(self, order: int) -> Secret:
        if time.monotonic() >= self._until:
            self._seed, self._until = secrets.token_bytes(32), time.monotonic() + self._seconds
            self._secrets = {}
        if order not in self._secrets:
            made = await asyncio.to_thread(Secret, self._seed, order, secrets.token_bytes(4 * order))
            self._secrets[order] = made
        return self._secrets[order]


class Proofs:
    def __init__(self, reach: Reach, settings: Settings) -> None:
        self._reach = reach
        self._settings = settings
        self._chance = secrets.SystemRandom()
        self._epochs = Epochs(settings.probe_epoch_seconds)

    async def ask(self, node_id: str, probe_id: str, cards: int, floor_ms: float) -> list[Proved] | Failure:
        """What every card proved, or the first failure. `cards` = 0: the processor proves."""
        order = self._settings.probe_card_order if cards else self._settings.probe_proof_order
        secret = await self._epochs.secret(order)
        runs = [
            _Run(self._reach, self._settings, probe_id, self._question(secret, node_id, card, cards > 0), secret)
            for card in range(max(cards, 1))
        ]
        try:
            async with asyncio.timeout(self._settings.probe_budget_seconds):
                await _all(run.prepare() for run in runs)
                await _all(run.commit() for run in runs)
                return await _all(run.open(self._chance, floor_ms) for run in runs)
        except _Refused as why:
            refused, failing = why, next(run for run in runs if run.failed is why)
        except TimeoutError:
            refused, failing = _Refused(Reason.no_answer, "The proof took longer than a node is given."), runs[0]
        if not self._reach.nats.is_connected:
            raise Unmeasurable("The prober lost its own connection.")
        return failing.failure(refused, floor_ms)

    def _question(self, secret: Secret, node_id: str, card: int, has_cards: bool) -> Question:
        settings = self._settings
        return Question(
            order=secret.order,
            steps=settings.probe_card_steps if has_cards else settings.probe_proof_steps,
            every=settings.probe_card_every if has_cards else 1,
            epoch=secret.epoch,
            node=node_id,
            card=card,
            nonce=secrets.token_bytes(32),
        )


class _Run:
    """One card's proof."""

    def __init__(self, reach: Reach, settings: Settings, probe_id: str, question: Question, secret: Secret) -> None:
        self._reach, self._settings, self._probe_id = reach, settings, probe_id
        self._question, self._secret = question, secret
        self._root, self._commit_ms = b"", 0.0
        self._cells: tuple[Cell, ...] = ()
        self.failed: _Refused | None = None

    async def prepare(self) -> None:
        await self._stage("prepare", self._settings.probe_prepare_seconds)

    async def commit(self) -> None:
        """The reading: on our clock, from the question to the root."""
        started = time.perf_counter()
        answer = await self._stage("commit", self._settings.probe_answer_seconds)
        self._commit_ms = (time.perf_counter() - started) * 1000
        try:
            self._root = bytes.fromhex(answer.root)
        except ValueError:
            self._root = b""
        if len(self._root) != 32:
            self._refuse(Reason.malformed, "The root of the commitment is not a digest.")

    async def open(self, chance: secrets.SystemRandom, floor_ms: float) -> Proved:
        """Rows are drawn when the root is here, and asked for in answers that fit a message."""
        question = self._question
        self._cells = draw_cells(question, self._settings.probe_proof_rows, chance)
        at_once = max(1, PROOF_BYTES_MAX // question.opening_bytes)
        openings: list[Opening] = []
        for first in range(0, len(self._cells), at_once):
            part = self._cells[first : first + at_once]
            answer = await self._stage("open", self._settings.probe_answer_seconds, part)
            openings += [opened(opening) for opening in answer.openings[: len(part)]]
        try:
            await asyncio.to_thread(check, question, self._secret, self._root, self._cells, openings)
        except Fault as fault:
            reason = Reason.malformed if fault.unreadable else Reason.wrong_answer
            self._refuse(reason, str(fault), fault.opening)
        evidence = self._evidence(floor_ms, None)
        return Proved(operations=question.operations, elapsed_ms=self._commit_ms, proof=evidence)

    async def _stage(self, stage: ProofStage, seconds: float, cells: Sequence[Cell] = ()) -> ProveGpuAnswer:
        query = ProveGpu(
            id=f"{self._probe_id}-{self._question.card}-{stage}",
            at=now_ms(),
            node_id=self._question.node,
            probe_id=self._probe_id,
            stage=stage,
            question=question_on_the_wire(self._question),
            cells=tuple(ProofCell(cell.row, cell.segment) for cell in cells),
        )
        try:
            reply = await self._reach.nats.request(query.subject(), encode(query), timeout=seconds)
        except NoRespondersError as error:
            raise Unmeasurable("The node is not connected.") from error
        except TimeoutError:
            self._refuse(Reason.no_answer, f"The {stage} of a proof was not answered within {seconds:.0f} s.")
        answer = decoded(reply.data)
        if answer is None or (answer.probe_id, answer.stage) != (self._probe_id, stage):
            self._refuse(Reason.malformed, f"The answer to the {stage} of a proof cannot be read.")
        if answer.declined:
            self._refuse(Reason.no_answer, f"The node declined the {stage} of a proof: {answer.declined[:200]}")
        return answer

    def _refuse(self, reason: Reason, detail: str, opening: Opening | None = None) -> NoReturn:
        self.failed = _Refused(reason, detail, opening)
        raise self.failed

    def failure(self, refused: _Refused, floor_ms: float) -> Failure:
        card = f"Card {self._question.card}: "
        answer = Answered(
            kind="gpu",
            size=self._question.order,
            expected="",
            answered=self._root.hex() or None,
            elapsed_ms=self._commit_ms,
        )
        return Failure(
            kind="gpu",
            reason=refused.reason,
            detail=card + refused.detail,
            answer=answer,
            proof=self._evidence(floor_ms, refused.opening),
        )

    def _evidence(self, floor_ms: float, wrong: Opening | None) -> ProofEvidence:
        shown = wrong if self._question.opening_bytes <= _PUBLISHED_BYTES_MAX else None
        return ProofEvidence(
            question=question_on_the_wire(self._question),
            root=self._root.hex(),
            cells=() if wrong is None else (ProofCell(wrong.cell.row, wrong.cell.segment),),
            openings=() if shown is None else (opening_on_the_wire(shown),),
            commit_ms=round(self._commit_ms),
            floor_micros=round(floor_ms * 1000),
        )


async def _all(stages: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All cards at once; the first failure is raised when the last card is done, so that none goes on alone."""
    results = await asyncio.gather(*stages, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def legible(body: bytes, bytes_max: int) -> bool:
    """Whether it is worth reading: a null character could stand in no event and in no row, and so escape a verdict."""
    return len(body) <= bytes_max and b"\\u0000" not in body


def decoded(body: bytes) -> ProveGpuAnswer | None:
    """What the node sent, or None where it cannot be read."""
    if not legible(body, _ANSWER_BYTES_MAX):
        return None
    try:
        return msgspec.json.decode(body, type=ProveGpuAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
