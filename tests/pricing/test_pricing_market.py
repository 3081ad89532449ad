"""Pricing's view of pool and market, from events on the real bus to the lines of a quote."""

from typing import Any

import msgspec

from libs.bus import ask
from libs.clock import now_ms
from libs.ids import new_id
from services.pricing.domain.policy import Policy
from tests.conftest import Running, until
from tests.pricing.conftest import NODE, REQUEST, SPEC, Pricing, place, quoted, told
from wire.access import MessageRefused
from wire.booking import BookingQuoted, ClusterReady, LeaseEnded, NodeReplaced, NodesHeld
from wire.market import Earnings, EstimateWorkload, GetEarnings, MarketRate, WorkloadClass, WorkloadEstimate
from wire.node import NodeAdmitted
from wire.values import LeaseTerms, Money, NodeId, Reason, usd

PARTNER = "acme"


def node(number: int) -> NodeId:
    return NODE[:-1] + "ABCDEFGHIJKLMNOP"[number]


def lease(number: int, fence: int) -> LeaseTerms:
    return LeaseTerms(lease_id=f"lease_{number}_{fence}", node_id=node(number), fence=fence, hourly=usd(1))


async def admit(running: Running, nodes: int, ask: int = 0) -> None:
    spec = msgspec.structs.replace(SPEC, ask_hourly=usd(ask) if ask else None)
    for number in range(nodes):
        await running.publish(NodeAdmitted(node_id=node(number), at=10 + ask, spec=spec))


async def hold(running: Running, *leases: LeaseTerms, at: int) -> None:
    held = NodesHeld(partner=PARTNER, booking_id="b1", leases=leases, escrow=usd(1), hold_expires_at=at + 1, at=at)
    await running.publish(held)


async def end(running: Running, ended: LeaseTerms, at: int) -> None:
    over = LeaseEnded(
        partner=PARTNER, booking_id="b1", lease=ended, started_at=0, ended_at=at, reason="released", at=at
    )
    await running.publish(over)


async def used(running: Running, count: int, of: int) -> None:
    await told(running, "pool supply", f"{count} of {of} nodes")


async def test_leases_are_counted_in_whatever_order_events_come(pricing: Pricing) -> None:
    async with pricing() as running:
        await admit(running, 4)
        await hold(running, lease(0, 1), lease(1, 1), at=20)
        await used(running, 2, 4)
        await end(running, lease(0, 1), at=30)
        await used(running, 1, 4)
        # The end of a lease that overtakes its begin.
        await end(running, lease(2, 1), at=50)
        await hold(running, lease(2, 1), lease(3, 1), at=40)
        await used(running, 2, 4)
        # A node's next lease, then the late end of the one before it.
        replaced = NodeReplaced(
            partner=PARTNER, booking_id="b1", lost_node_id=node(1), lost_lease_id="x", lease=lease(0, 2), at=60
        )
        await running.publish(replaced)
        await end(running, lease(0, 1), at=61)
        await used(running, 3, 4)
        # A cluster that restarts ends its leases and takes the same nodes again, which no event but this names.
        await end(running, lease(3, 1), at=70)
        await used(running, 2, 4)
        ready = ClusterReady(
            partner=PARTNER,
            booking_id="b1",
            head_node_id=node(3),
            node_ids=(node(3),),
            generation=2,
            expires_at=10**6,
            at=71,
        )
        await running.publish(ready)
        await used(running, 3, 4)
        await end(running, lease(3, 2), at=80)
        await used(running, 2, 4)


async def test_a_full_pool_makes_the_price_rise_and_a_free_one_lets_it_fall(pricing: Pricing) -> None:
    policy = Policy(surge_nodes_min=2, surge_settle_seconds=1)
    async with pricing(policy=policy) as running:
        await admit(running, 2)
        await hold(running, lease(0, 1), lease(1, 1), at=20)

        async def raised() -> bool:
            return (await quoted(running)).hourly.amount > 346_991

        async def fallen() -> bool:
            return not await raised()

        await until(raised, timeout=40)
        assert (await quoted(running)).hourly.amount <= 346_991 * 3 // 2
        await end(running, lease(0, 1), at=30)
        await end(running, lease(1, 1), at=30)
        await until(fallen, timeout=40)


async def rate(running: Running, source: str, micros: int, **fields: Any) -> MarketRate:
    seen = {"partner": PARTNER, "model": REQUEST.model, "observed_at": now_ms() - 1000, **fields}
    return await running.publish(MarketRate(source=source, hourly_micros=micros, **seen))


async def test_the_price_floats_under_the_market_and_names_what_it_does_not_believe(pricing: Pricing) -> None:
    async with pricing(policy=Policy(market_feeds_trusted=PARTNER)) as running:
        await rate(running, "one", 300_000)
        await told(running, "market", "one (acme): 1 of 2 sources")
        await rate(running, "two", 310_000)
        given = await told(running, "market", "one at 0.300000 USD")
        assert given.hourly == usd(285_000)
        await rate(running, "two", 400_000, observed_at=now_ms())
        await rate(running, "one", 500_000, observed_at=now_ms())
        assert (await told(running, "market", "two at 0.400000 USD")).hourly == usd(380_000)
        await rate(running, "one", 40_000, observed_at=now_ms() + 10)
        await told(running, "market", "one (acme): jumped from 0.500000 USD to 0.040000 USD")
        await rate(running, "one", 41_000, observed_at=now_ms() + 20)  # saying it again does not help
        await told(running, "market", "one (acme): jumped from 0.500000 USD to 0.041000 USD")


async def test_two_sources_of_one_partner_are_one_unless_he_is_trusted(pricing: Pricing) -> None:
    async with pricing() as running:
        await rate(running, "one", 300_000)
        await rate(running, "two", 290_000)
        assert (await told(running, "market", "two (acme): 1 of 2 sources")).hourly == usd(346_991)
        await rate(running, "three", 310_000, partner="beta")
        assert (await told(running, "market", "two at 0.290000 USD")).hourly == usd(275_500)


async def test_a_rate_that_cannot_be_kept_is_refused(pricing: Pricing) -> None:
    async with pricing() as running:
        unknown = await rate(running, "one", 1, model="RTX 3091")
        refused = await running.heard(MessageRefused, message_id=unknown.id)
        assert (refused.identity, refused.refusal.reason) == (PARTNER, Reason.unknown_model)
        early = await rate(running, "one", 1, observed_at=now_ms() + 3_600_000)
        assert (await running.heard(MessageRefused, message_id=early.id)).refusal.reason is Reason.out_of_range
        for number in range(17):
            last = await rate(running, f"source {number}", 300_000)
        refused = await running.heard(MessageRefused, message_id=last.id)
        assert "at most 16 sources" in refused.refusal.detail
        negative = msgspec.json.encode({**msgspec.to_builtins(last), "id": "bad", "hourly_micros": -1})
        await running.publish_raw(last.subject(), negative, "bad")
        assert (await running.heard(MessageRefused, message_id="bad")).refusal.reason is Reason.malformed


async def test_what_nodes_ask_is_the_least_price(pricing: Pricing) -> None:
    async with pricing() as running:
        await admit(running, 3, ask=1_900_000)
        given = await told(running, "cost floor", "2 cheapest free nodes ask at most 1.900000 USD")
        assert given.hourly == usd(2_000_000)
        # One comes back with another ask, one is leased: the cheapest that are free count.
        await running.publish(NodeAdmitted(node_id=node(0), at=10**8, spec=SPEC))
        await hold(running, lease(1, 1), lease(2, 1), at=20)
        await told(running, "cost floor", "no node asks more")


async def test_other_money_than_usd_is_no_ask(pricing: Pricing) -> None:
    async with pricing() as running:
        spec = msgspec.structs.replace(SPEC, ask_hourly=Money(10**9, "RENDER"))
        await running.publish(NodeAdmitted(node_id=node(0), at=10, spec=spec))
        assert (await told(running, "pool supply", "0 of 1 nodes")).hourly == usd(346_991)


async def test_how_soon_clusters_were_ready_is_what_a_quote_tells(pricing: Pricing) -> None:
    async with pricing(policy=Policy(ready_samples_min=3)) as running:
        for took in (8000, 9000, 30_000):
            booking_id = await place(running, None, at=1_000_000)
            await running.heard(BookingQuoted, booking_id=booking_id)
            ready = ClusterReady(
                partner=PARTNER,
                booking_id=booking_id,
                head_node_id=node(0),
                node_ids=(node(0),),
                expires_at=10**9,
                at=1_000_000 + took,
            )
            await running.publish(ready)

        async def known() -> bool:
            return (await quoted(running)).ready_samples == 3

        await until(known)
        given = await quoted(running)
        assert (given.ready_p50_ms, given.ready_p90_ms) == (9000, 30_000)


async def test_an_estimate_and_the_earnings_are_answered(pricing: Pricing) -> None:
    async with pricing() as running:
        asked = EstimateWorkload(
            id=new_id("msg"),
            partner=PARTNER,
            items=100_000,
            batch_items=1000,
            deadline_seconds=3600,
            classes=(WorkloadClass(model="RTX 4090", item_micros=50_000),),
        )
        found = await ask.ask(running.client, asked, WorkloadEstimate)
        assert [plan.chosen for plan in found.plans].count(True) == 1
        table = await ask.ask(running.client, GetEarnings(identity=PARTNER, render_price_micros=5 * 10**6), Earnings)
        row = next(row for row in table.rows if row.model == "RTX 4090")
        assert row.break_even_hourly == usd(370_139)
        assert row.break_even_hourly_render == Money(7_402_780, "RENDER")
