"""The proof of GPU on the real bus: a node that proves passes, and each way of not proving is told apart."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs import nkey
from services.node_agent import probe_worker
from services.node_agent.agent import Agent
from services.node_agent.gpu import Gpu
from services.node_agent.probes import ProbeWorker
from services.prober.__main__ import service
from services.prober.evidence import verify_evidence
from services.prober.proving import decoded
from services.prober.settings import Settings
from wire.message import encode
from wire.node import NodeAdmitted
from wire.probe import (
    Probe,
    ProbeFailed,
    ProbePassed,
    ProbeUnmeasurable,
    ProofEvidence,
    ProofQuestion,
    ProveGpu,
    ProveGpuAnswer,
)
from wire.values import NodeSpec, PortBlock, Reason

NODE = "U" + "A" * 55
Answerer = Callable[[ProveGpu], Awaitable[bytes]]


def spec(gpus: int) -> NodeSpec:
    return NodeSpec(
        name="n",
        manufacturer="M",
        model="X",
        gpus=gpus,
        vram_mb=0,
        cpu_model="c",
        cpu_cores=1,
        cpu_mhz=1,
        memory_mb=1,
        ray_ports=PortBlock(first=20_000, count=64),
    )


class Node:
    """A node in this process: its work is that of the agent's child, its answers are what `lie` makes of them."""

    def __init__(self, lie: Callable[[ProveGpu, bytes], bytes | None] = lambda query, body: body) -> None:
        self._cards: dict[int, probe_worker.CardProver] = {}
        self._lie = lie
        self.asked: list[ProveGpu] = []

    async def prove(self, message: Msg) -> None:
        query = msgspec.json.decode(message.data, type=ProveGpu)
        self.asked.append(query)
        card = self._cards.setdefault(query.question.card, probe_worker.CardProver())
        body = self._lie(query, encode(await asyncio.to_thread(card.answer, query)))
        if body is not None:
            await message.respond(body)


@pytest.fixture
def examined(running_service: Any, settings: Any, nats_client: Client) -> Any:
    """`async with examined(node, gpus) as running`: the prober tests that node."""

    @asynccontextmanager
    async def run(node: Node | None, gpus: int = 0, **more: Any) -> AsyncIterator[Any]:
        small = {
            "probe_product_order": 64,
            "probe_chain_links": 1000,
            "probe_memory_mb": 1,
            "probe_payload_bytes": 1000,
            "probe_proof_order": 256,
            "probe_proof_steps": 40,
            "probe_card_order": 128,
            "probe_card_steps": 6,
            "probe_card_every": 2,
            "probe_answer_seconds": 3.0,
        }
        own = await settings("prober", Settings, **{**small, **more})

        async def answer(message: Msg) -> None:
            query = msgspec.json.decode(message.data, type=Probe)
            await message.respond(encode(await asyncio.to_thread(probe_worker.answer, query)))

        subscribed = [await nats_client.subscribe(Probe.pattern(node_id=NODE), cb=answer)]
        if node is not None:
            subscribed.append(await nats_client.subscribe(ProveGpu.pattern(node_id=NODE), cb=node.prove))
        try:
            async with running_service(service(own), own) as running:
                await running.publish(NodeAdmitted(node_id=NODE, spec=spec(gpus)))
                yield running
        finally:
            for subscription in subscribed:
                await subscription.unsubscribe()

    return run


@pytest.mark.parametrize("gpus", [0, 3])
async def test_a_node_that_proves_passes_with_a_reading(examined: Any, gpus: int) -> None:
    node = Node()
    async with examined(node, gpus) as running:
        passed = await running.heard(ProbePassed, timeout=30)
    assert passed.readings.gflops > 0
    assert [proof.question.card for proof in passed.proofs] == list(range(max(gpus, 1)))
    assert passed.proofs[0].question.every == (2 if gpus else 1)
    stages = [query.stage for query in node.asked[: 2 * max(gpus, 1)]]
    assert stages == ["prepare"] * max(gpus, 1) + ["commit"] * max(gpus, 1)
    nonces = {query.question.nonce for query in node.asked}
    assert len(nonces) >= max(gpus, 1)


def with_wrong_row(query: ProveGpu, body: bytes) -> bytes:
    answer = msgspec.json.decode(body, type=ProveGpuAnswer)
    if query.stage != "open":
        return body
    first = answer.openings[0]
    wrong = msgspec.structs.replace(first, products=bytes([first.products[0] ^ 1]) + first.products[1:])
    return encode(msgspec.structs.replace(answer, openings=(wrong, *answer.openings[1:])))


async def test_a_wrong_row_is_published_and_anyone_can_check_it(examined: Any) -> None:
    async with examined(Node(with_wrong_row)) as running:
        failed = await running.heard(ProbeFailed, timeout=30)
    assert (failed.kind, failed.reason) == ("gpu", Reason.wrong_answer)
    assert failed.proof is not None and len(failed.proof.openings) == 1
    assert "not A·B" in verify_evidence(NODE, failed.proof)
    # The same evidence about a row that is right convicts nobody.
    assert verify_evidence(NODE, honest_evidence(failed.proof)) == ""


def honest_evidence(failed: ProofEvidence) -> ProofEvidence:
    query = ProveGpu(node_id=NODE, probe_id="p", stage="commit", question=failed.question, cells=failed.cells)
    card = probe_worker.CardProver()
    root = card.answer(query).root
    openings = card.answer(msgspec.structs.replace(query, stage="open")).openings
    return msgspec.structs.replace(failed, root=root, openings=openings)


LIES: dict[str, tuple[Callable[[ProveGpu, bytes], bytes | None], Reason]] = {
    "no commitment": (lambda query, body: None if query.stage == "commit" else body, Reason.no_answer),
    "nothing opened": (lambda query, body: None if query.stage == "open" else body, Reason.no_answer),
    "not JSON": (lambda query, body: b"\x80\x04 pickle", Reason.malformed),
    "a bomb of brackets": (lambda query, body: b"[" * 500_000, Reason.malformed),
    "an answer too large to be carried": (lambda query, body: body + b" " * 1_100_000, Reason.no_answer),
    "another question's answer": (lambda query, body: body.replace(b"prb_", b"prc_"), Reason.malformed),
    "a root that is none": (
        lambda query, body: encode(ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage, root="zz")),
        Reason.malformed,
    ),
    "no rows": (
        lambda query, body: (
            body if query.stage == "commit" else encode(ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage))
        ),
        Reason.malformed,
    ),
    "declines": (
        lambda query, body: encode(ProveGpuAnswer(probe_id=query.probe_id, stage=query.stage, declined="busy")),
        Reason.no_answer,
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_each_way_of_not_proving_fails(examined: Any, lie: str) -> None:
    change, reason = LIES[lie]
    async with examined(Node(change), probe_answer_seconds=1.0, probe_prepare_seconds=10.0) as running:
        failed = await running.heard(ProbeFailed, timeout=30)
    assert (failed.kind, failed.reason) == ("gpu", reason)


async def test_a_slow_node_has_a_budget(examined: Any) -> None:
    class Slow(Node):
        async def prove(self, message: Msg) -> None:
            await asyncio.sleep(0.4)
            await super().prove(message)

    async with examined(Slow(), probe_budget_seconds=0.6) as running:
        failed = await running.heard(ProbeFailed, timeout=30)
    assert failed.reason is Reason.no_answer


async def test_a_node_that_cannot_be_asked_is_unmeasurable(examined: Any) -> None:
    async with examined(None) as running:
        await running.heard(ProbeUnmeasurable, timeout=30)


async def test_the_agents_children_prove_and_decline() -> None:
    worker = ProbeWorker()
    question = {"epoch": "1" * 64, "nonce": "2" * 64, "order": 64}

    async def ask(stage: str, **more: Any) -> ProveGpuAnswer:
        body = {"id": "q", "node_id": NODE, "probe_id": "p", "stage": stage, "type": "ProveGpu"}
        asked = {**body, "question": {**question, **more.pop("question", {})}, **more}
        raw = await worker.prove(ProveGpu.pattern(node_id=NODE), msgspec.json.encode(asked))
        return msgspec.json.decode(raw, type=ProveGpuAnswer)

    try:
        assert (await ask("open", cells=[{"row": 1}])).declined
        assert not (await ask("prepare")).declined
        assert len((await ask("commit")).root) == 64
        (opening,) = (await ask("open", cells=[{"row": 63}])).openings
        assert opening.cell.row == 63
        assert (await ask("commit", question={"card": 1})).declined
        assert (await ask("commit", question={"order": 65})).declined
    finally:
        worker.stop()


async def test_the_agent_answers_all_its_cards_at_once(nats_client: Client, tmp_path: Path) -> None:
    cards = [Gpu(index=i, minor=i, manufacturer="M", model="X", vram_bytes=0, uuid="") for i in range(2)]
    agent = Agent("", nkey.new(), spec(2), cards, tmp_path)
    agent._client = nats_client
    await agent._subscribe_probes()
    try:
        replies = await asyncio.gather(
            *(nats_client.request(*asked(agent.node_id, card), timeout=60) for card in range(3))
        )
    finally:
        agent._probes.stop()
    first, second, third = (msgspec.json.decode(reply.data, type=ProveGpuAnswer) for reply in replies)
    assert len(first.root) == len(second.root) == 64 and first.root != second.root
    assert "no card 2" in third.declined


def asked(node_id: str, card: int) -> tuple[str, bytes]:
    question = ProofQuestion(epoch="1" * 64, nonce="2" * 64, order=64, card=card)
    query = ProveGpu(id="q", node_id=node_id, probe_id="p", stage="commit", question=question)
    return query.subject(), encode(query)


async def test_each_card_has_a_child_that_sees_it_alone() -> None:
    cards = [Gpu(index=i, minor=i, manufacturer="M", model="X", vram_bytes=0, uuid=f"GPU-{i}") for i in range(2)]
    worker = ProbeWorker(cards)
    assert [child._environment["CUDA_VISIBLE_DEVICES"] for child in worker._cards] == ["GPU-0", "GPU-1"]


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_hostile_bytes_are_read_or_refused(body: bytes) -> None:
    assert decoded(body) is None or isinstance(decoded(body), ProveGpuAnswer)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
)
def test_hostile_shapes_are_read_or_refused(shape: object) -> None:
    body = msgspec.json.encode({"type": "ProveGpuAnswer", "probe_id": "p", "stage": "open", "openings": shape})
    answer = decoded(body)
    assert answer is None or len(answer.openings) <= 256
