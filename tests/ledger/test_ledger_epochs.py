"""Epochs on a real database: what is earned in them, what they pay, and what they carry over."""

import msgspec
import pytest

from services.ledger.domain.emission import RENDER
from services.ledger.epoch_rows import USES_MAX
from services.ledger.payday import close_when_due, publish_head
from services.ledger.settings import Settings
from tests.ledger.builders import (
    HOUR,
    T0,
    Desk,
    booking_ended,
    deposit,
    failed,
    held,
    lease_ended,
    node,
    only,
    passed,
    span,
)
from wire.ledger import CloseEpoch, EpochClosed, EpochRefused, GetStatement, LedgerHeadPublished, NodeReward, Statement
from wire.message import BODY_BYTES_MAX
from wire.quote import Refused
from wire.values import AMOUNT_MAX, LeaseUse, Money, ProbeReadings, Reason


async def work(desk: Desk, booking: str, *spans_ms: int) -> None:
    await desk.hand_in(deposit(10_000_000, f"pay_{booking}"))
    spans = [span(number, T0, T0 + ms) for number, ms in enumerate(spans_ms)]
    await desk.hand_in(held(nodes=len(spans), booking=booking), booking_ended(spans, booking))


async def test_an_epoch_pays_by_coupons_and_by_tests(desk: Desk) -> None:
    await work(desk, "bkg_1", HOUR, HOUR // 3)
    await desk.hand_in(passed(0, "a"), passed(0, "b"), passed(2, "c"), failed(2, "d"))
    closed = only(await desk.close_epoch(), EpochClosed)
    assert closed.epoch == 0
    first, second, third = closed.rewards
    assert (first.node_id, second.node_id, third.node_id) == (node(0), node(1), node(2))
    coupons = first.coupons.amount + second.coupons.amount
    assert closed.usd_compute.amount == closed.all_coupons.amount == coupons
    emission = closed.emission.amount
    assert emission == 19_014_175_000_000 * 9 // 10
    assert closed.compute_pool.amount == emission * coupons // (coupons + 70_000 * 10**6)
    assert first.job_reward.amount + second.job_reward.amount == closed.compute_pool.amount
    assert closed.availability_pool.amount == 1_901_417_500_000
    assert third.availability_reward.amount == closed.availability_pool.amount // 3, "half of its tests were failed"
    assert closed.carried_over == Money(0, "RENDER")
    assert closed.burned.amount == await desk.balance("burned") > 0
    assert await desk.balance(f"pay:{node(0)}") == first.job_reward.amount + first.availability_reward.amount
    assert await desk.balance("render_mint") == -(closed.compute_pool.amount + closed.availability_pool.amount)
    assert (await desk.audit()).passed


async def test_a_statement_lets_a_node_recompute_its_pay(desk: Desk) -> None:
    await work(desk, "bkg_1", HOUR, HOUR // 3)
    await desk.hand_in(passed(0, "a"), passed(1, "b", gflops=41_290))
    await desk.close_epoch()
    told = await desk.ask(GetStatement(identity=node(0), node_id=node(0)))
    assert isinstance(told, Statement)
    reward = told.reward
    pool = told.emission.amount * told.usd_compute.amount // (told.usd_compute.amount + told.usd_render.amount)
    assert told.compute_pool.amount == pool + told.compute_carried_in.amount
    assert sum(use.coupons.amount for use in told.uses) == reward.coupons.amount
    job = told.compute_pool.amount * reward.coupons.amount / told.all_coupons.amount
    assert abs(reward.job_reward.amount - job) <= 1
    assert (int(reward.weight) * 9, reward.score_millionths) == (int(told.all_weights) * 8, 10**6)
    availability = told.availability_pool.amount * int(reward.weight) / int(told.all_weights)
    assert abs(reward.availability_reward.amount - availability) <= 1
    assert told.balance.amount == reward.job_reward.amount + reward.availability_reward.amount
    idle = await desk.ask(GetStatement(identity="acme", node_id=node(9), epoch=0))
    assert isinstance(idle, Statement)
    assert (idle.reward.job_reward.amount, idle.uses, idle.balance.amount) == (0, (), 0)


@pytest.mark.parametrize("epoch", [None, 0, 1, 10**9])
async def test_an_epoch_that_is_not_closed_has_no_statement(desk: Desk, epoch: int | None) -> None:
    refused = await desk.ask(GetStatement(identity="acme", node_id=node(0), epoch=epoch))
    assert isinstance(refused, Refused)
    assert refused.refusal.reason is Reason.epoch_open


async def test_an_epoch_without_work_carries_over(desk: Desk) -> None:
    empty = only(await desk.close_epoch(), EpochClosed)
    assert (empty.rewards, empty.nodes, empty.usd_compute.amount) == ((), 0, 0)
    assert empty.compute_pool.amount == 0, "RNP-004: no dollars, no share"
    assert empty.carried_over == empty.availability_pool
    assert await desk.balance("reserve:availability") == empty.availability_pool.amount
    await desk.hand_in(passed(0, "a"))
    paid = only(await desk.close_epoch(), EpochClosed)
    assert paid.epoch == 1
    assert paid.availability_carried_in == empty.availability_pool
    assert paid.rewards[0].availability_reward.amount == 2 * empty.availability_pool.amount
    assert await desk.balance("reserve:availability") == 0
    assert (await desk.audit()).passed


async def test_an_epoch_that_has_not_lasted_is_not_closed(desk: Desk) -> None:
    await desk.close_epoch()
    refused = only(await desk.hand_in(CloseEpoch(operator="ops")), EpochRefused)
    assert (refused.epoch, refused.refusal.reason) == (1, Reason.epoch_open)


async def test_work_belongs_to_the_epoch_in_which_it_is_charged(desk: Desk) -> None:
    await desk.hand_in(deposit(10_000_000), held())
    await desk.hand_in(lease_ended(span(0, T0, T0 + HOUR // 4)))
    first = only(await desk.close_epoch(), EpochClosed)
    await desk.hand_in(booking_ended([span(0, T0, T0 + HOUR // 4), span(1, T0, T0 + HOUR)]))
    second = only(await desk.close_epoch(), EpochClosed)
    assert [reward.node_id for reward in first.rewards] == [node(0)]
    assert [reward.node_id for reward in second.rewards] == [node(1)]
    assert (await desk.audit()).passed


async def test_the_same_test_counts_once(desk: Desk) -> None:
    await desk.hand_in(passed(0, "a"), passed(0, "a", gflops=99_999), failed(0, "a"))
    assert await desk.connection.fetchval("SELECT count(*) FROM probes") == 1
    closed = only(await desk.close_epoch(), EpochClosed)
    assert closed.rewards[0].score_millionths == 10**6


async def test_the_clock_closes_epochs_only_where_they_have_a_length(desk: Desk) -> None:
    assert await desk.work("every/close_epoch/1", close_when_due) == []
    desk.now += 10**9
    assert await desk.work("every/close_epoch/2", close_when_due) == []
    fields = {name: getattr(desk.settings, name) for name in desk.settings.__struct_fields__}
    desk.settings = Settings(**{**fields, "epoch_seconds": 60, "epoch_emission": 1000 * RENDER})
    closed = only(await desk.work("every/close_epoch/3", close_when_due), EpochClosed)
    assert closed.started_at == T0
    desk.now += 59_999
    assert await desk.work("every/close_epoch/4", close_when_due) == []
    desk.now += 1
    closed = only(await desk.work("every/close_epoch/5", close_when_due), EpochClosed)
    assert (closed.epoch, closed.emission.amount) == (1, 900 * RENDER)


async def test_a_head_is_published_once_for_each_height(desk: Desk) -> None:
    assert await desk.work("every/publish_head/1", publish_head) == []
    await desk.hand_in(deposit(5))
    head = only(await desk.work("every/publish_head/2", publish_head), LedgerHeadPublished)
    assert (head.height, head.head) == (1, (await desk.audit()).head)
    assert await desk.work("every/publish_head/3", publish_head) == []


async def test_the_largest_readings_a_node_can_claim_are_weighed_exactly(desk: Desk) -> None:
    most = ProbeReadings(bandwidth_kb_s=10**12, memory_mb=10**9, cpu_mhz=10**6, gflops=10**9)
    claim = msgspec.structs.replace(passed(0, "a"), readings=most, score_millionths=2**53 - 1)
    await desk.hand_in(claim, msgspec.structs.replace(claim, probe_id="b"), passed(1, "c"))
    closed = only(await desk.close_epoch(), EpochClosed)
    assert closed.rewards[0].weight == str(10**99)
    assert closed.rewards[0].availability_reward == closed.availability_pool
    assert (await desk.audit()).passed


def test_the_longest_lists_fit_into_a_message() -> None:
    money, text = Money(AMOUNT_MAX), "x" * 64
    use = LeaseUse(
        lease_id=text,
        node_id=node(0),
        hourly=money,
        billed_ms=2**53,
        cost=money,
        fee=money,
        burned=money,
        coupons=Money(AMOUNT_MAX, "COUPON"),
    )
    pay = Money(AMOUNT_MAX, "RENDER")
    reward = NodeReward(
        node_id=node(0),
        coupons=use.coupons,
        score_millionths=2**53,
        job_reward=pay,
        availability_reward=pay,
        weight="9" * 100,
    )
    for listed in (use, reward):
        assert len(msgspec.json.encode([listed] * USES_MAX)) + 4096 < BODY_BYTES_MAX
