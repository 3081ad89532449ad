"""What one process concludes from heartbeats and the server's advisories, at times of the test's choosing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.domain.liveness import CLOSED, SHUTDOWN, FleetView, Known, Lost, Rules

RULES = Rules()
NODE, BOOT, AGENT = "node", "boot_1", "server/1"
STALE = "Stale Connection"


def known(**changes: object) -> Known:
    values: dict[str, object] = {"node_id": NODE, "boot_id": BOOT, "live": True, "lost": False}
    return Known(**{**values, **changes})  # type: ignore[arg-type]


def view(at: int = 0) -> FleetView:
    """A fleet of one node, connected and heard."""
    fleet = FleetView(RULES)
    fleet.begin(at)
    fleet.connect(NODE, AGENT)
    fleet.complete_with([], at)
    fleet.know(known(), at)
    assert fleet.hear(NODE, BOOT, (), False, at) == ""
    return fleet


def due(fleet: FleetView, at: int) -> list[Lost]:
    return [*fleet.due(at), *fleet.silent(at)]


def test_a_closed_connection_is_a_loss_at_once() -> None:
    fleet = view()
    assert fleet.disconnect(NODE, AGENT, CLOSED, 20_000) == Lost(NODE, BOOT, "disconnected", 0)
    assert due(fleet, 10**6) == []


@pytest.mark.parametrize("reason", [STALE, "Read Error", "Write Error", "Kicked", "Slow Consumer (Write Deadline)"])
def test_a_connection_the_server_closed_is_given_a_short_grace(reason: str) -> None:
    fleet = view()
    fleet.hear(NODE, BOOT, (), False, 16_000)
    assert fleet.disconnect(NODE, AGENT, reason, 20_000) is None
    assert due(fleet, 20_000 + RULES.grace_ms - 1) == []
    # It was alive when it last answered a ping, at the latest one stale time before.
    assert due(fleet, 20_750) == [Lost(NODE, BOOT, "disconnected", 3_750)]


def test_a_node_that_is_back_in_time_is_not_lost() -> None:
    fleet = view()
    fleet.disconnect(NODE, AGENT, STALE, 20_000)
    fleet.connect(NODE, "server/2")
    fleet.hear(NODE, BOOT, (), False, 20_100)
    assert due(fleet, 30_000) == []


def test_a_connection_that_was_replaced_is_no_loss() -> None:
    fleet = view()
    fleet.connect(NODE, "server/2")
    assert fleet.disconnect(NODE, AGENT, CLOSED, 1_000) is None
    assert due(fleet, 2_000) == []
    assert fleet.disconnect(NODE, "server/2", CLOSED, 3_000) is not None


def test_silence_alone_is_a_loss_after_three_heartbeats() -> None:
    fleet = view()
    fleet.hear(NODE, BOOT, (), False, 20_000)
    assert due(fleet, 20_000 + RULES.silence_ms) == []
    assert due(fleet, 20_001 + RULES.silence_ms) == [Lost(NODE, BOOT, "silent", RULES.silence_ms + 1)]


def test_whoever_begins_to_listen_gives_everybody_time() -> None:
    fleet = FleetView(RULES)
    fleet.begin(100_000)
    fleet.know(known(), 100_000)
    assert fleet.disconnect(NODE, AGENT, CLOSED, 100_001) is None, "it may have another connection that we do not know"
    assert due(fleet, 100_000 + RULES.begin_grace_ms) == []
    # Never heard by us: only the rows know when it was last seen.
    assert due(fleet, 100_001 + RULES.silence_ms) == [Lost(NODE, BOOT, "silent", None)]


def test_after_a_restart_the_unconnected_have_the_grace_to_come_back() -> None:
    fleet = view()
    fleet.hear(NODE, BOOT, (), False, 49_000)
    fleet.begin(50_000)
    fleet.complete_with([], 50_010)
    assert due(fleet, 50_000 + RULES.begin_grace_ms) == []
    assert [lost.reason for lost in due(fleet, 51_000 + RULES.begin_grace_ms)] == ["disconnected"]
    fleet = view()
    fleet.begin(50_000)
    fleet.complete_with([(NODE, "server/9")], 50_010)
    fleet.hear(NODE, BOOT, (), False, 50_500)
    assert due(fleet, 51_000 + RULES.begin_grace_ms) == []


def test_a_heartbeat_disproves_that_an_unseen_node_is_gone() -> None:
    fleet = FleetView(RULES)
    fleet.begin(0)
    fleet.complete_with([], 0)  # on another server of the cluster, perhaps
    fleet.know(known(), 0)
    fleet.hear(NODE, BOOT, (), False, 5_000)
    assert due(fleet, 14_000) == []


def test_a_connection_that_ended_while_the_list_was_on_its_way_is_not_on_it() -> None:
    fleet = FleetView(RULES)
    fleet.begin(0)
    fleet.disconnect(NODE, AGENT, CLOSED, 1)
    fleet.complete_with([(NODE, AGENT), (NODE, "server/2")], 2)
    assert fleet.connections == {NODE: {"server/2"}}


def test_a_server_that_shuts_down_takes_nobody_with_it() -> None:
    fleet = view()
    fleet.hear(NODE, BOOT, (), False, 19_000)
    fleet.disconnect(NODE, AGENT, SHUTDOWN, 20_000)
    assert due(fleet, 25_000) == []
    assert len(due(fleet, 20_000 + RULES.begin_grace_ms)) == 1


def test_a_draining_node_may_close_its_connection() -> None:
    fleet = view()
    fleet.drain(NODE, "boot_0")
    fleet.drain(NODE, BOOT)
    assert fleet.disconnect(NODE, AGENT, CLOSED, 20_000) is None
    fleet.know(known(live=False), 20_100)
    assert due(fleet, 60_000) == []


def test_a_lost_node_is_looked_at_once_it_is_back() -> None:
    fleet = view()
    fleet.disconnect(NODE, AGENT, CLOSED, 20_000)
    # What it sent before it died comes late.
    assert fleet.hear(NODE, BOOT, (), False, 20_001) == ""
    fleet.connect(NODE, "server/2")
    assert fleet.hear(NODE, BOOT, (), False, 20_100) == "look"
    assert fleet.hear(NODE, BOOT, (), False, 20_200) == "", "not with every heartbeat"
    fleet.know(known(), 20_300)
    assert due(fleet, 30_000) == []


def test_a_lease_the_rows_do_not_know_calls_for_a_look() -> None:
    fleet = view()
    fleet.know(known(lease_ids=frozenset({"lse_1"})), 0)
    assert fleet.hear(NODE, BOOT, ("lse_1",), False, 5_000) == ""
    assert fleet.hear(NODE, BOOT, ("lse_1", "lse_0"), False, 10_000) == "look"


def test_an_unknown_process_is_asked_about() -> None:
    fleet = view()
    assert fleet.hear(NODE, "boot_2", (), False, 1) == "unknown"
    assert fleet.hear("stranger", BOOT, (), False, 1) == "unknown"
    fleet.know(known(boot_id="boot_2"), 2)
    assert fleet.hear(NODE, "boot_2", (), False, 3) == ""


def test_a_node_that_died_before_it_was_known_is_doubted() -> None:
    fleet = view()
    fleet.hear(NODE, BOOT, (), False, 20_000)
    fleet.know(Known("other", "boot_1", True, False), 20_000)
    assert [lost.node_id for lost in due(fleet, 20_000 + RULES.grace_ms)] == ["other"]


def test_a_node_that_was_seen_to_go_before_it_was_known_has_no_grace_left() -> None:
    fleet = FleetView(RULES)
    fleet.begin(0)
    fleet.complete_with([(NODE, AGENT)], 0)
    fleet.disconnect(NODE, AGENT, CLOSED, 1_000)
    fleet.know(known(), 2_000)
    assert [lost.reason for lost in due(fleet, 2_000)] == ["disconnected"]


def test_a_loss_that_could_not_be_written_is_found_again() -> None:
    fleet = view()
    lost = fleet.disconnect(NODE, AGENT, CLOSED, 20_000)
    assert lost is not None
    fleet.doubt_again(lost, 20_100)
    assert len(due(fleet, 20_100 + RULES.grace_ms)) == 1


steps = st.lists(
    st.tuples(
        st.integers(0, 4_000),
        st.sampled_from(["beat", "connect", CLOSED, STALE, "begin", "census", "rows live", "rows lost"]),
    ),
    max_size=40,
)


@given(steps)
def test_who_is_connected_and_heard_is_never_lost(history: list[tuple[int, str]]) -> None:
    """In any history, as long as a second connection stays open and beats all the time."""
    fleet = view()
    fleet.connect(NODE, "server/other")
    at = 0
    for pause, step in history:
        for _ in range(pause // 1_000 + 1):
            at += 1_000
            fleet.hear(NODE, BOOT, (), False, at)
        lost = play(fleet, step, at)
        if step == "begin":
            fleet.complete_with([(NODE, "server/other")], at)
        assert lost is None
        assert due(fleet, at) == []


def play(fleet: FleetView, step: str, at: int) -> Lost | None:
    match step:
        case "beat":
            fleet.hear(NODE, BOOT, (), False, at)
        case "connect":
            fleet.connect(NODE, "server/2")
        case "begin":
            fleet.begin(at)
        case "census":
            fleet.complete_with([(NODE, "server/other")], at)
        case "rows live" | "rows lost":
            fleet.know(known(live=step == "rows live", lost=step == "rows lost"), at)
        case reason:
            return fleet.disconnect(NODE, "server/2", reason, at)
    return None
