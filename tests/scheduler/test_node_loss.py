"""A node is lost before the cluster is ready and after, head and worker, with a replacement and without."""

from services.scheduler.domain.booking import Limits, State
from services.scheduler.fleet import lose_node
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
    ReplacementReady,
)
from wire.message import Message
from wire.node import LeaseRejected, NodeLost, RayNodeFailed, RayNodeStopped, StartRayNode, StopRayNode
from wire.values import Reason

LIMITS = Limits()
RELEASE = ReleaseBooking(partner="acme", booking_id="bkg_1")


async def lose(driver: Driver, node_id: str, last_seen_at: int | None = None) -> list[Message]:
    """As liveness does, in one transaction."""
    boot = await driver.connection.fetchval("SELECT boot_id FROM nodes WHERE node_id = $1", node_id)
    seen = driver.now if last_seen_at is None else last_seen_at
    return await driver.work(lambda rows: lose_node(rows, node_id, boot, "disconnected", seen))


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
    said = await lose(driver, worker, died_at)
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
    said = await lose(driver, worker)
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
    said = await lose(driver, head)
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
    said = await lose(driver, head)
    only(said, ClusterDegraded)
    start = only(said, StartRayNode)
    assert (start.node_id, start.role) == (worker, "head")
    ready = only(await driver.feed(builders.started(start)), ClusterReady)
    assert ready.node_ids == (worker,)
    assert (await driver.booking()).state is State.degraded


async def test_all_nodes_lost_waits_for_others_and_then_gives_up(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    head, worker = await cluster(driver)
    await lose(driver, head)
    await lose(driver, worker)
    booking = await driver.booking()
    assert (booking.state, booking.head, len(booking.missing)) == (State.restarting, None, 2)
    await driver.join_nodes(5)
    starts = of(await driver.wait(1_000), StartRayNode)
    assert [(start.node_id, start.role, start.generation) for start in starts] == [(builders.node_id(5), "head", 3)]

    await lose(driver, builders.node_id(5))
    ended = only(await driver.wait(LIMITS.start_ms), BookingEnded)
    assert ended.reason == "cluster_failed"
    assert len(ended.spans) == 4


async def test_a_node_lost_before_ready_is_replaced_and_never_billed(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    await driver.feed(*(builders.started(command) for command in commands if command.role == "head"))
    said = await lose(driver, worker.node_id)
    assert only(said, LeaseEnded).started_at == 0
    ready = only(await driver.feed(builders.started(only(said, StartRayNode))), ClusterReady)
    assert worker.node_id not in ready.node_ids
    assert (await driver.booking()).failures == 0


async def test_a_head_lost_before_ready_restarts_the_start(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    head = next(command for command in commands if command.role == "head")
    said = await lose(driver, head.node_id)
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
    said = await lose(driver, held.leases[0].node_id)
    assert kinds(said) == ["NodeLost", "LeaseEnded", "NodeReplaced"]
    assert {lease.state for lease in (await driver.booking()).live} == {"held"}
    said = await lose(driver, held.leases[1].node_id)
    assert only(said, BookingRefused).refusal.reason == Reason.no_capacity
    assert len(of(said, LeaseEnded)) == 2
    assert only(await driver.feed(builders.funded(held)), BookingEnded).reason == "refused"


def failed(command: StartRayNode, **changes: object) -> RayNodeFailed:
    values: dict[str, object] = {
        "node_id": command.node_id,
        "lease_id": command.lease.lease_id,
        "fence": command.lease.fence,
        "generation": command.generation,
        "detail": "no",
    }
    return RayNodeFailed(**{**values, **changes})  # type: ignore[arg-type]


async def test_a_node_that_fails_to_start_is_not_tried_again(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    worker = next(command for command in commands if command.role == "worker")
    said = await driver.feed(failed(worker))
    assert only(said, LeaseEnded).reason == "start_failed"
    spare = only(said, StartRayNode)
    said = await driver.feed(failed(spare))
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
        said = await driver.feed(failed(worker))
        ended = of(said, BookingEnded)
        commands = of(said, StartRayNode)
    assert tries == LIMITS.failures_max + 1
    assert ended[0].reason == "cluster_failed"
    assert ended[0].refusal is not None


async def test_a_worker_that_fails_in_mid_run_is_replaced(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3)
    commands = await driver.start(builders.order())
    await driver.feed(*(builders.started(command) for command in commands))
    worker = next(command for command in commands if command.role == "worker")
    said = await driver.feed(failed(worker))
    assert only(said, LeaseEnded).reason == "node_lost"
    assert only(said, NodeReplaced).lost_node_id == worker.node_id
    assert only(said, StopRayNode).node_id == worker.node_id


async def test_a_replacement_that_never_starts_is_replaced_itself(driver: Driver) -> None:
    await driver.join_nodes(1, 2, 3, 4)
    _, worker = await cluster(driver)
    died_at = driver.now
    first = only(await lose(driver, worker), StartRayNode)
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
    starts = of(await lose(driver, head), StartRayNode)
    new_head = next(start for start in starts if start.role == "head")
    await driver.feed(builders.started(new_head))
    said = await driver.wait(LIMITS.start_ms)
    assert only(said, ClusterReady).node_ids == (new_head.node_id,)
    assert (await driver.booking()).state is State.degraded


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
            failed(worker, fence=9),
            failed(worker, generation=2),
            failed(worker, node_id=builders.node_id(3)),
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
    assert await driver.feed(failed(worker)) == []
    assert await driver.booking() == over


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
        said = await lose(driver, worker.node_id)
    ended = only(said, BookingEnded)
    assert ended.reason == "cluster_failed"
    assert len(ended.spans) == 5
