"""A node is lost of a running cluster, head and worker, with a replacement and without."""

from services.scheduler.domain.booking import Limits, State
from tests.scheduler import builders
from tests.scheduler.driver import Driver, kinds, of, only
from wire.booking import (
    BookingEnded,
    ClusterDegraded,
    ClusterReady,
    ClusterRestarting,
    LeaseEnded,
    NodeReplaced,
    ReleaseBooking,
    ReplacementReady,
)
from wire.node import NodeLost, StartRayNode, StopRayNode
from wire.values import Reason

LIMITS = Limits()
RELEASE = ReleaseBooking(partner="acme", booking_id="bkg_1")


async def cluster(driver: Driver) -> tuple[str, str]:
    """Runs bkg_1 on two nodes; returns head and worker."""
    ready = await driver.run(builders.order())
    head = ready.head_node_id
    return head, next(node_id for node_id in ready.node_ids if node_id != head)


async def test_a_lost_worker_is_replaced_and_its_gap_is_told(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    _, worker = await cluster(driver)
    driver.now += 60_000
    died_at = driver.now - 400
    said = await driver.lose(worker, died_at)
    assert kinds(said)[0] == "NodeLost"
    ended = only(said, LeaseEnded)
    assert (ended.reason, ended.ended_at) == ("node_lost", died_at)
    assert only(said, NodeLost).lease_ids == (ended.lease.lease_id,)
    replaced = only(said, NodeReplaced)
    assert (replaced.lost_node_id, replaced.lost_lease_id) == (worker, ended.lease.lease_id)
    start = only(said, StartRayNode)
    assert (start.role, start.generation, start.lease) == ("worker", 1, replaced.lease)
    assert (await driver.booking()).state is State.degraded

    driver.now += 7_000
    ready = only(await driver.feed(builders.started(start)), ReplacementReady)
    assert ready.gap_ms == driver.now - died_at
    booking = await driver.booking()
    assert booking.state is State.ready
    assert [lease.started_at for lease in booking.live if lease.node_id == start.node_id] == [driver.now]


async def test_a_worker_that_nobody_replaces_leaves_its_place_to_the_next_node(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    _, worker = await cluster(driver)
    died_at = driver.now
    said = await driver.lose(worker)
    degraded = only(said, ClusterDegraded)
    assert (degraded.lost_node_id, degraded.refusal.reason) == (worker, Reason.no_capacity)
    assert not of(said, StartRayNode)
    assert await driver.wait(1_000) == []

    await driver.join_nodes(3)
    said = await driver.wait(1_000)
    assert only(said, NodeReplaced).lost_node_id == worker
    ready = only(await driver.feed(builders.started(only(said, StartRayNode))), ReplacementReady)
    assert ready.gap_ms == driver.now - died_at
    assert (await driver.booking()).state is State.ready


async def test_a_lost_head_restarts_the_survivors_under_a_new_one(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    head, worker = await cluster(driver)
    ready_at = driver.now
    driver.now += 60_000
    said = await driver.lose(head)
    restarting = only(said, ClusterRestarting)
    assert (restarting.lost_node_id, restarting.head_node_id, restarting.generation) == (head, worker, 2)
    # The survivor's old lease ends too, so that nothing is billed until the cluster is ready again.
    assert {ended.lease.node_id: ended.reason for ended in of(said, LeaseEnded)} == {
        head: "node_lost",
        worker: "cluster_failed",
    }
    starts = of(said, StartRayNode)
    assert {start.node_id: start.role for start in starts} == {worker: "head", builders.node_id(3): "worker"}
    assert {start.generation for start in starts} == {2}
    fences = {start.node_id: start.lease.fence for start in starts}
    assert fences[worker] == 2
    assert {stop.node_id: stop.fence for stop in of(said, StopRayNode)} == {head: 1, worker: 1}

    driver.now += 9_000
    said = await driver.feed(*(builders.started(start) for start in starts))
    again = only(said, ClusterReady)
    assert (again.generation, again.expires_at) == (2, ready_at + 3_600_000)
    assert [gap.gap_ms for gap in of(said, ReplacementReady)] == [9_000, 9_000]

    driver.now += 1_000
    spans = only(await driver.feed(RELEASE), BookingEnded).spans
    billed = sorted(span.ended_at - span.started_at for span in spans)
    assert billed == [1_000, 1_000, 60_000, 60_000]


async def test_a_head_without_replacement_goes_on_with_the_survivors(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    head, worker = await cluster(driver)
    said = await driver.lose(head)
    only(said, ClusterDegraded)
    start = only(said, StartRayNode)
    assert (start.node_id, start.role) == (worker, "head")
    ready = only(await driver.feed(builders.started(start)), ClusterReady)
    assert ready.node_ids == (worker,)
    assert (await driver.booking()).state is State.degraded


async def test_all_nodes_lost_waits_for_others_and_then_gives_up(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    head, worker = await cluster(driver)
    await driver.lose(head)
    await driver.lose(worker)
    booking = await driver.booking()
    assert (booking.state, booking.head, len(booking.missing)) == (State.restarting, None, 2)
    await driver.join_nodes(5)
    starts = of(await driver.wait(1_000), StartRayNode)
    assert [(start.node_id, start.role, start.generation) for start in starts] == [(builders.node_id(5), "head", 3)]

    await driver.lose(builders.node_id(5))
    ended = only(await driver.wait(LIMITS.start_ms), BookingEnded)
    assert ended.reason == "cluster_failed"
    assert len(ended.spans) == 4


async def test_a_worker_that_fails_in_mid_run_is_replaced(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    await driver.feed(*(builders.started(command) for command in commands))
    worker = next(command for command in commands if command.role == "worker")
    said = await driver.feed(builders.failed(worker))
    assert only(said, LeaseEnded).reason == "node_lost"
    assert only(said, NodeReplaced).lost_node_id == worker.node_id
    assert only(said, StopRayNode).node_id == worker.node_id


async def test_a_replacement_that_never_starts_is_replaced_itself(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3, 4)
    _, worker = await cluster(driver)
    died_at = driver.now
    first = only(await driver.lose(worker), StartRayNode)
    said = await driver.wait(LIMITS.start_ms)
    assert only(said, LeaseEnded).reason == "start_failed"
    second = only(said, StartRayNode)
    assert second.node_id not in (first.node_id, worker)
    ready = only(await driver.feed(builders.started(second)), ReplacementReady)
    assert ready.gap_ms == driver.now - died_at


async def test_a_restart_does_not_die_of_one_worker_that_hangs(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    head, _ = await cluster(driver)
    await driver.join_nodes(3)
    starts = of(await driver.lose(head), StartRayNode)
    new_head = next(start for start in starts if start.role == "head")
    await driver.feed(builders.started(new_head))
    said = await driver.wait(LIMITS.start_ms)
    assert only(said, ClusterReady).node_ids == (new_head.node_id,)
    assert (await driver.booking()).state is State.degraded


async def test_leases_are_bounded_and_the_end_can_always_be_told(driver: Driver) -> None:
    driver.limits = Limits(leases_max=5)
    await driver.join_nodes(*range(1, 12))
    commands = await driver.start(builders.order())
    await driver.feed(*(builders.started(command) for command in commands))
    for _ in range(10):
        booking = await driver.booking()
        if booking.over:
            break
        worker = next(lease for lease in booking.live if lease is not booking.head)
        said = await driver.lose(worker.node_id)
    ended = only(said, BookingEnded)
    assert ended.reason == "cluster_failed"
    assert len(ended.spans) == 5


async def test_nothing_becomes_ready_after_its_time(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    ready = await driver.run(builders.order(duration_seconds=60))
    starts = of(await driver.lose(ready.head_node_id), StartRayNode)
    await driver.feed(*(builders.started(start) for start in starts if start.role == "head"))
    driver.now = ready.expires_at + 500
    worker = next(start for start in starts if start.role == "worker")
    assert not of(await driver.lose(worker.node_id), ClusterReady)
    ended = only(await driver.wait(0), BookingEnded)
    assert all(span.ended_at <= ready.expires_at for span in ended.spans if span.started_at)


async def test_who_joins_after_the_time_ends_the_booking(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    ready = await driver.run(builders.order(duration_seconds=60))
    worker = next(node_id for node_id in ready.node_ids if node_id != ready.head_node_id)
    start = only(await driver.lose(worker), StartRayNode)
    driver.now = ready.expires_at
    said = await driver.feed(builders.started(start))
    assert only(said, BookingEnded).reason == "expired"
    assert not of(said, ReplacementReady)
