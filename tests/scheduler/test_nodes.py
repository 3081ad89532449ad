"""Nodes that join, drain, leave, return and are banned."""

import pytest

from services.scheduler.fleet import look_at_node, lose_node
from tests.scheduler import builders
from tests.scheduler.driver import Driver, kinds, of, only
from wire.access import IdentityBanned
from wire.booking import BookingEnded, LeaseEnded, NodeReplaced, ReleaseBooking
from wire.message import Message
from wire.node import (
    FleetView,
    GetFleet,
    LeaseRejected,
    NodeAdmitted,
    NodeLeaving,
    NodeLost,
    NodeWithdrawn,
    StartRayNode,
    StopRayNode,
)
from wire.reputation import NodeScored
from wire.values import Reason

RELEASE = ReleaseBooking(partner="acme", booking_id="bkg_1")


async def state_of(driver: Driver, number: int) -> str:
    fleet = await driver.ask(GetFleet(identity="acme"))
    assert isinstance(fleet, FleetView)
    return next(node.state for node in fleet.nodes if node.node_id == builders.node_id(number))


def leaving(number: int, boot: str = "boot_1") -> NodeLeaving:
    return NodeLeaving(node_id=builders.node_id(number), boot_id=f"{boot}_{number}")


async def vanish(driver: Driver, number: int, boot: str = "boot_1") -> list[Message]:
    node_id = builders.node_id(number)
    return await driver.work(lambda rows: lose_node(rows, node_id, f"{boot}_{number}", "disconnected", driver.now), "")


async def test_a_node_is_admitted_once(driver: Driver) -> None:
    assert only(await driver.feed(builders.joined(1)), NodeAdmitted).spec == builders.spec()
    assert await driver.feed(builders.joined(1)) == []
    changed = builders.joined(1, name="renamed")
    assert only(await driver.feed(changed), NodeAdmitted).spec.name == "renamed"


async def test_a_drained_node_withdraws(driver: Driver) -> None:
    await driver.join_nodes(1)
    assert kinds(await driver.feed(leaving(1))) == ["NodeWithdrawn"]
    assert await vanish(driver, 1) == []
    assert await driver.feed(leaving(1)) == []
    # What is delivered again does not bring it back; a new process does.
    assert await driver.feed(builders.joined(1)) == []
    assert only(await driver.feed(builders.joined(1, "boot_2")), NodeAdmitted)


async def test_a_node_with_a_lease_leaves_when_it_is_over(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.run(builders.order())
    assert await driver.feed(leaving(1)) == []
    assert await state_of(driver, 1) == "draining"
    said = await driver.feed(RELEASE)
    assert only(said, NodeWithdrawn).node_id == builders.node_id(1)
    held = await driver.hold(builders.order("bkg_2", nodes=1))
    assert [lease.node_id for lease in held.leases] == [builders.node_id(2)]


async def test_a_node_that_leaves_in_mid_lease_left_and_was_not_lost(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    ready = await driver.run(builders.order())
    number = next(n for n in (1, 2, 3) if builders.node_id(n) in ready.node_ids)
    await driver.feed(leaving(number))
    said = await vanish(driver, number)
    assert of(said, NodeWithdrawn)
    assert not of(said, NodeLost)
    assert {ended.reason for ended in of(said, LeaseEnded)} <= {"node_left", "cluster_failed"}
    assert only(said, NodeReplaced).lost_node_id == builders.node_id(number)


async def test_a_leaving_node_is_not_blamed_for_rejecting(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    number = next(n for n in (1, 2, 3) if builders.node_id(n) == worker.node_id)
    await driver.feed(leaving(number))
    rejected = LeaseRejected(node_id=worker.node_id, lease_id=worker.lease.lease_id, fence=1, reason=Reason.not_allowed)
    said = await driver.feed(rejected)
    assert only(said, LeaseEnded).reason == "node_left"
    assert only(said, NodeWithdrawn).node_id == worker.node_id


async def test_a_loss_that_is_declared_twice_has_one_effect(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    ready = await driver.run(builders.order())
    number = next(n for n in (1, 2, 3) if builders.node_id(n) in ready.node_ids)
    assert only(await vanish(driver, number), NodeLost)
    assert await vanish(driver, number) == []
    assert await vanish(driver, 9) == []


async def test_a_new_process_ends_what_the_old_one_ran(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    ready = await driver.run(builders.order())
    number = next(n for n in (1, 2, 3) if builders.node_id(n) in ready.node_ids)
    said = await driver.feed(builders.joined(number, "boot_2"))
    assert kinds(said)[0] == "NodeLost"
    assert kinds(said)[-1] == "NodeAdmitted"
    assert "node_lost" in {ended.reason for ended in of(said, LeaseEnded)}
    # The replacement is another node: the one that just came back was not in the pool yet.
    assert only(said, NodeReplaced).lease.node_id != builders.node_id(number)
    # The old process' word, delivered again, is stale: it neither ends nor admits anything.
    assert await driver.feed(builders.joined(number, "boot_1")) == []
    assert await vanish(driver, number, "boot_1") == []
    assert await driver.feed(leaving(number, "boot_1")) == []


async def test_a_lost_node_that_is_heard_again_is_admitted_and_told_what_is_over(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    await driver.feed(*(builders.started(command) for command in commands))
    worker = next(command for command in commands if command.role == "worker")
    number = next(n for n in (1, 2, 3) if builders.node_id(n) == worker.node_id)
    await vanish(driver, number)
    leases = (worker.lease.lease_id, "lse_unknown")

    async def look(boot: str) -> list[Message]:
        return await driver.work(lambda rows: look_at_node(rows, worker.node_id, boot, leases))

    assert await look(f"boot_9_{number}") == []
    said = await look(f"boot_1_{number}")
    assert only(said, NodeAdmitted).node_id == worker.node_id
    stop = only(said, StopRayNode)
    assert (stop.lease_id, stop.fence) == (worker.lease.lease_id, worker.lease.fence)
    assert await state_of(driver, number) == "free"


async def test_a_running_lease_is_not_stopped_by_a_heartbeat(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    commands = await driver.start(builders.order())
    command = commands[0]
    number = next(n for n in (1, 2) if builders.node_id(n) == command.node_id)
    lease_ids = (command.lease.lease_id,)
    said = await driver.work(lambda rows: look_at_node(rows, command.node_id, f"boot_1_{number}", lease_ids))
    assert said == []


async def test_a_banned_node_is_out_for_good(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    ready = await driver.run(builders.order())
    number = next(n for n in (1, 2, 3) if builders.node_id(n) in ready.node_ids)
    banned = IdentityBanned(public_key=builders.node_id(number), reason=Reason.wrong_answer)
    said = await driver.feed(banned)
    assert only(said, NodeLost).reason == "banned"
    assert "banned" in {ended.reason for ended in of(said, LeaseEnded)}
    assert await driver.feed(banned, builders.joined(number, "boot_2"), leaving(number)) == []
    assert await state_of(driver, number) == "lost"
    assert await driver.feed(IdentityBanned(public_key=builders.node_id(99), reason=Reason.banned)) == []


async def test_reputation_decides_who_is_taken_and_old_scores_do_not_count(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)

    def scored(number: int, millis: int, at: int) -> NodeScored:
        return NodeScored(
            node_id=builders.node_id(number),
            lower_millis=millis,
            mean_millis=millis,
            upper_millis=1000,
            because="",
            id=f"score_{number}_{at}",
            at=at,
        )

    await driver.feed(scored(3, 900, 20), scored(2, 500, 10), scored(3, 10, 10), scored(99, 5, 5))
    held = await driver.hold(builders.order())
    assert [lease.node_id for lease in held.leases] == [builders.node_id(3), builders.node_id(2)]


@pytest.mark.parametrize("times", [1, 2])
async def test_a_node_serves_one_booking_after_the_other_with_growing_fences(driver: Driver, times: int) -> None:
    await driver.join_nodes(1)
    fences = []
    for nth in range(times + 1):
        commands = await driver.start(builders.order(f"bkg_{nth}", nodes=1))
        fences.append(only(commands, StartRayNode).lease.fence)
        release = ReleaseBooking(partner="acme", booking_id=f"bkg_{nth}")
        only(await driver.feed(release), BookingEnded)
    assert fences == list(range(1, times + 2))
