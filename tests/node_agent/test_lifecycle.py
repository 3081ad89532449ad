"""Which commands a node still obeys."""

from hypothesis import given
from hypothesis import strategies as st

from services.node_agent.domain import lifecycle
from services.node_agent.domain.lifecycle import Held, Ignore, Reject, Start
from wire.node import StartRayNode, StopRayNode
from wire.values import LeaseTerms, PortBlock, Reason, usd

NODE = "U" + "A" * 55
NOW = 1_000_000


def order(lease_id: str = "lse_1", fence: int = 1, generation: int = 1, expires_at: int = NOW + 1) -> StartRayNode:
    return StartRayNode(
        id="x",
        at=NOW,
        node_id=NODE,
        lease=LeaseTerms(lease_id=lease_id, node_id=NODE, fence=fence, hourly=usd(1)),
        booking_id="bkg_1",
        generation=generation,
        role="worker",
        head_address="127.0.0.1",
        head_ports=PortBlock(first=20_000, count=64),
        cluster_token="ab" * 32,
        cluster_nodes=2,
        gpus=0,
        lease_expires_at=expires_at,
    )


def held(lease_id: str = "lse_1", fence: int = 1, generation: int = 1) -> Held:
    return Held(lease_id=lease_id, fence=fence, generation=generation, expires_at=NOW + 1)


def test_a_free_node_starts() -> None:
    assert lifecycle.start(order(), None, 0, NOW, False) == Start(None)


def test_the_same_order_again_changes_nothing() -> None:
    assert lifecycle.start(order(), held(), 1, NOW, False) == Ignore()


def test_a_new_generation_of_the_same_lease_starts_again() -> None:
    assert lifecycle.start(order(generation=2), held(), 1, NOW, False) == Start("lse_1")


def test_a_newer_lease_supersedes_what_runs() -> None:
    assert lifecycle.start(order("lse_2", fence=2), held(), 1, NOW, False) == Start("lse_1")


def reason_of(decided: object) -> Reason:
    assert isinstance(decided, Reject)
    return decided.reason


def test_what_is_refused() -> None:
    assert reason_of(lifecycle.start(order(fence=1), None, 2, NOW, False)) is Reason.not_allowed
    assert reason_of(lifecycle.start(order(expires_at=NOW), None, 0, NOW, False)) is Reason.already_ended
    assert reason_of(lifecycle.start(order(), None, 0, NOW, True)) is Reason.not_allowed


@given(st.lists(st.integers(1, 20), max_size=30))
def test_fences_never_go_back(fences: list[int]) -> None:
    """In whatever order commands arrive, the leases that start have growing fences."""
    highest, running, started = 0, None, []
    for fence in fences:
        decided = lifecycle.start(order(f"lse_{fence}", fence), running, highest, NOW, False)
        if isinstance(decided, Start):
            highest, running = fence, held(f"lse_{fence}", fence)
            started.append(fence)
    assert started == sorted(set(started))


def test_a_stop_concerns_its_lease_alone() -> None:
    def stop(lease_id: str, fence: int) -> StopRayNode:
        return StopRayNode(id="y", at=NOW, node_id=NODE, lease_id=lease_id, fence=fence)

    assert lifecycle.stop(stop("lse_1", 1), held())
    assert not lifecycle.stop(stop("lse_2", 2), held())
    assert not lifecycle.stop(stop("lse_1", 1), held(fence=2))
    assert not lifecycle.stop(stop("lse_1", 1), None)


def test_a_lease_is_over_by_the_nodes_own_clock() -> None:
    assert not lifecycle.is_over(held(), NOW)
    assert lifecycle.is_over(held(), NOW + 1)
