"""Who is heard and who is not: the fleet as one process sees it, and when that makes a node lost.

Times are milliseconds of a clock that never jumps. A closed connection is news at once, a frozen one after a short
grace for the node to connect again, and three missing heartbeats where the server told us nothing. Whoever has just
begun to listen (again) knows nothing yet and gives everybody time to be heard. What is concluded here is a proposal:
the database decides.
"""

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from services.scheduler.domain.node import LostReason

CLOSED = "Client Closed"
SHUTDOWN = "Server Shutdown"
GONE_MAX = 10_000


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """`stale_ms`: how long a connection may have been dead before the server noticed (ping interval × (max + 1))."""

    grace_ms: int = 750
    silence_ms: int = 15_000
    begin_grace_ms: int = 12_000
    stale_ms: int = 3_000
    return_ms: int = 2_000
    recheck_ms: int = 5_000


class Known(msgspec.Struct, frozen=True):
    """What the database holds of a node."""

    node_id: str
    boot_id: str
    live: bool
    lost: bool
    lease_ids: frozenset[str] = frozenset()


class Lost(msgspec.Struct, frozen=True):
    """A node that should be declared lost; it was alive `seen_ms_ago`, or, None, when the database last knew it was."""

    node_id: str
    boot_id: str
    reason: LostReason
    seen_ms_ago: int | None


Notice = Literal["", "unknown", "look"]
"""What a heartbeat calls for: nothing, or learning of a new process, or a look at the node's rows."""


class Pulse(msgspec.Struct):
    """One node's signs of life."""

    boot_id: str
    live: bool
    lost: bool
    heard_at: int
    lease_ids: frozenset[str]
    ever_heard: bool = False
    draining: bool = False
    gone_at: int = 0
    recheck_at: int = 0


class Doubt(NamedTuple):
    """Until when a node may prove that it lives: by connecting, or, where nobody saw it go, by a heartbeat too."""

    until: int
    seen_at: int
    since: int
    heartbeat_counts: bool


class FleetView:
    """Every node's pulse, and every connection of every key; one process's memory, rebuilt from nothing."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.pulses: dict[str, Pulse] = {}
        self.connections: dict[str, set[str]] = {}
        self.complete = False
        """Whether `connections` holds every connection of the server, so that none means none."""
        self._doubts: dict[str, Doubt] = {}
        self._ended: set[str] = set()  # what ended while the list was on its way, and may still be on it
        self._gone: dict[str, int] = {}  # keys we saw go before the rows told us that they are nodes
        self._quiet_until = 0

    def begin(self, at: int) -> None:
        """Listen from now on; what was known of connections is void, and nobody is silent yet."""
        self.connections.clear()
        self._doubts.clear()
        self._ended.clear()
        self._gone.clear()
        self.complete = False
        self._quiet_until = at + self.rules.begin_grace_ms

    def complete_with(self, connections: Iterable[tuple[str, str]], at: int) -> None:
        """The server has named every (key, connection) there is."""
        for key, connection in connections:
            if connection not in self._ended:
                self.connections.setdefault(key, set()).add(connection)
        self.complete = True
        self._ended.clear()
        for node_id in self.pulses:
            self._doubt_unconnected(node_id, at)

    def know(self, known: Known, at: int) -> None:
        """The database's word on a node."""
        pulse = self.pulses.get(known.node_id)
        if pulse is None or pulse.boot_id != known.boot_id:
            self.pulses[known.node_id] = Pulse(known.boot_id, known.live, known.lost, at, known.lease_ids)
            self._doubt_unconnected(known.node_id, at)
            return
        came, went = known.live and not pulse.live, pulse.live and not known.live
        pulse.live, pulse.lost, pulse.lease_ids = known.live, known.lost, known.lease_ids
        if came:
            pulse.heard_at = at  # if it dies unseen from here on, silence counts from now
            self._doubt_unconnected(known.node_id, at)
        if went:
            pulse.gone_at = at

    def hear(self, node_id: str, boot_id: str, leases: tuple[str, ...], draining: bool, at: int) -> Notice:
        """A heartbeat."""
        pulse = self.pulses.get(node_id)
        if pulse is None or pulse.boot_id != boot_id:
            return "unknown"
        pulse.heard_at = at
        pulse.draining = draining
        pulse.ever_heard = True
        if pulse.live and pulse.lease_ids.issuperset(leases):
            return ""
        return self._look_again(node_id, pulse, at)

    def _look_again(self, node_id: str, pulse: Pulse, at: int) -> Notice:
        """Now and then, whether the node is back, or runs a lease that is over."""
        if at < pulse.recheck_at or not (pulse.live or pulse.lost):
            return ""
        if pulse.lost and not self.connections.get(node_id) and at < pulse.gone_at + self.rules.return_ms:
            return ""  # what it sent before it died can arrive after the news of its death
        pulse.recheck_at = at + self.rules.recheck_ms
        return "look"

    def drain(self, node_id: str, boot_id: str) -> None:
        """That process of the node has said that it leaves: when it goes, it need not go at once."""
        pulse = self.pulses.get(node_id)
        if pulse is not None and pulse.boot_id == boot_id:
            pulse.draining = True

    def connect(self, key: str, connection: str) -> None:
        self.connections.setdefault(key, set()).add(connection)
        self._doubts.pop(key, None)
        self._gone.pop(key, None)

    def disconnect(self, key: str, connection: str, reason: str, at: int) -> Lost | None:
        """A connection ended; the node is lost at once where it closed, and doubted where the server closed it."""
        if not self.complete:
            self._ended.add(connection)
        held = self.connections.get(key)
        if held is not None:
            held.discard(connection)
            if held:
                return None
            del self.connections[key]
        pulse = self.pulses.get(key)
        # Where some connections are unknown to us, the node may well have another one: its heartbeats will tell.
        if pulse is None and self.complete and len(self._gone) < GONE_MAX:
            self._gone[key] = at
        if pulse is None or not pulse.live or not self.complete:
            return None
        if reason == CLOSED and not pulse.draining:
            return self._lost(key, pulse, "disconnected", 0, at)
        seen = at if reason == CLOSED else max(pulse.heard_at, at - self.rules.stale_ms)
        wait = self.rules.begin_grace_ms if reason == SHUTDOWN else self.rules.grace_ms
        self._doubts.setdefault(key, Doubt(at + wait, seen, at, False))
        return None

    def doubt_again(self, lost: Lost, at: int) -> None:
        """It could not be declared lost this time."""
        pulse = self.pulses.get(lost.node_id)
        if pulse is not None and pulse.boot_id == lost.boot_id:
            pulse.live = True
            self._doubts[lost.node_id] = Doubt(at + self.rules.grace_ms, pulse.heard_at, at, False)

    def due(self, at: int) -> Iterator[Lost]:
        """Nodes whose grace is over."""
        for node_id in [node_id for node_id, doubt in self._doubts.items() if doubt.until <= at]:
            doubt = self._doubts.pop(node_id)
            pulse = self.pulses.get(node_id)
            if pulse is None or not pulse.live or self.connections.get(node_id):
                continue
            if not (doubt.heartbeat_counts and pulse.heard_at > doubt.since):
                yield self._lost(node_id, pulse, "disconnected", at - doubt.seen_at if pulse.ever_heard else None, at)

    def silent(self, at: int) -> Iterator[Lost]:
        """Nodes without a heartbeat for too long; a pass over the whole fleet."""
        if at < self._quiet_until:
            return
        oldest = at - self.rules.silence_ms
        for node_id, pulse in self.pulses.items():
            if pulse.live and pulse.heard_at < oldest:
                yield self._lost(node_id, pulse, "silent", at - pulse.heard_at if pulse.ever_heard else None, at)

    def _doubt_unconnected(self, node_id: str, at: int) -> None:
        """A node the database has just told of, whose connection may have ended before we knew it was a node's."""
        if not self.complete or not self.pulses[node_id].live or self.connections.get(node_id):
            return
        if node_id in self._gone:
            gone_at = self._gone.pop(node_id)
            self._doubts[node_id] = Doubt(gone_at + self.rules.grace_ms, gone_at, at, False)
        else:
            until = max(at, self._quiet_until) + self.rules.grace_ms
            self._doubts.setdefault(node_id, Doubt(until, self.pulses[node_id].heard_at, at, True))

    def _lost(self, node_id: str, pulse: Pulse, reason: LostReason, seen_ms_ago: int | None, at: int) -> Lost:
        pulse.live, pulse.lost, pulse.gone_at = False, True, at
        return Lost(node_id, pulse.boot_id, reason, seen_ms_ago)
