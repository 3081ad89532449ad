"""Nodes that are lost, fail or refuse before the cluster is ready, and words that come too late to count."""

from services.scheduler.domain.booking import Limits, State
from tests.scheduler import builders
from tests.scheduler.driver import Driver, kinds, of, only
from wire.booking import (
    BookingEnded,
    BookingRefused,
    ClusterDegraded,
    ClusterReady,
    ClusterRestarting,
    LeaseEnded,
    NodeReplaced,
    ReleaseBooking,
)
from wire.node import LeaseRejected, RayNodeStopped, StartRayNode, StopRayNode
from wire.values import Reason

LIMITS = Limits()
RELEASE = ReleaseBooking(partner="acme", booking_id="bkg_1")


async def test_a_node_lost_before_ready_is_replaced_and_never_billed(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    await driver.feed(*(builders.started(command) for command in commands if command.role == "head"))
    said = await driver.lose(worker.node_id)
    assert only(said, LeaseEnded).started_at == 0
    ready = only(await driver.feed(builders.started(only(said, StartRayNode))), ClusterReady)
    assert worker.node_id not in ready.node_ids
    assert (await driver.booking()).failures == 0


async def test_a_head_lost_before_ready_restarts_the_start(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    head = next(command for command in commands if command.role == "head")
    said = await driver.lose(head.node_id)
    assert only(said, ClusterRestarting).generation == 2
    assert (await driver.booking()).state is State.starting
    starts = of(said, StartRayNode)
    assert {start.cluster_token for start in starts} != {head.cluster_token}
    # What the first generation reports late belongs to leases that are over.
    assert not of(await driver.feed(*(builders.started(command) for command in commands)), ClusterReady)
    ready = only(await driver.feed(*(builders.started(start) for start in starts)), ClusterReady)
    assert ready.generation == 2


async def test_a_gang_that_is_held_is_mended_or_refused(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    held = await driver.hold(builders.order())
    said = await driver.lose(held.leases[0].node_id)
    assert kinds(said) == ["NodeLost", "LeaseEnded", "NodeReplaced"]
    assert {lease.state for lease in (await driver.booking()).live} == {"held"}
    said = await driver.lose(held.leases[1].node_id)
    assert only(said, BookingRefused).refusal.reason == Reason.no_capacity
    assert len(of(said, LeaseEnded)) == 2
    assert only(await driver.feed(builders.funded(held)), BookingEnded).reason == "refused"


async def test_a_node_that_fails_to_start_is_not_tried_again(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    said = await driver.feed(builders.failed(worker))
    assert only(said, LeaseEnded).reason == "start_failed"
    spare = only(said, StartRayNode)
    said = await driver.feed(builders.failed(spare))
    only(said, ClusterDegraded)
    assert await driver.wait(1_000) == []
    # It is free for everybody else.
    await driver.hold(builders.order("bkg_2"))


async def test_failed_starts_are_bounded(driver: Driver) -> None:
    await driver.join_nodes(*range(1, 20))
    commands = await driver.start(builders.order())
    ended: list[BookingEnded] = []
    tries = 0
    while not ended:
        tries += 1
        worker = next(command for command in commands if command.role == "worker")
        said = await driver.feed(builders.failed(worker))
        ended = of(said, BookingEnded)
        commands = of(said, StartRayNode)
    assert tries == LIMITS.failures_max + 1
    assert ended[0].reason == "cluster_failed"
    assert ended[0].refusal is not None


async def test_a_rejected_lease_goes_to_another_node(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    rejected = LeaseRejected(
        node_id=worker.node_id,
        lease_id=worker.lease.lease_id,
        fence=worker.lease.fence,
        reason=Reason.not_allowed,
    )
    assert only(await driver.feed(rejected), NodeReplaced).lost_node_id == worker.node_id


async def test_late_and_foreign_words_change_nothing(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    before = await driver.booking()
    lease_id = worker.lease.lease_id
    assert (
        await driver.feed(
            builders.started(worker, fence=9),
            builders.started(worker, generation=2),
            builders.started(worker, lease_id="lse_unknown"),
            builders.started(worker, node_id=builders.node_id(3)),
            builders.failed(worker, fence=9),
            builders.failed(worker, generation=2),
            builders.failed(worker, node_id=builders.node_id(3)),
            RayNodeStopped(node_id=builders.node_id(3), lease_id=lease_id, fence=1, reason="commanded"),
            LeaseRejected(node_id=worker.node_id, lease_id=lease_id, fence=9, reason=Reason.not_allowed),
        )
        == []
    )
    assert await driver.booking() == before

    await driver.feed(*(builders.started(command) for command in commands))
    await driver.feed(RELEASE)
    over = await driver.booking()
    stop = only(await driver.feed(builders.started(worker)), StopRayNode)
    assert (stop.lease_id, stop.fence) == (lease_id, 1)
    assert await driver.feed(builders.failed(worker)) == []
    assert await driver.booking() == over
