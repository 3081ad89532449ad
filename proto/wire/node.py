"""Node and network: what a node says of itself, what the network says of it, and what it is told to do."""

from typing import Annotated, Literal

import msgspec

from wire.message import Command, Event, Query, Reply, Telemetry, Token, UnixMs
from wire.values import LeaseTerms, Money, NodeId, NodeSpec, PartnerId, PortBlock, Reason, Text, Word

Role = Literal["head", "worker"]
ClusterToken = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class NodeJoined(Event, frozen=True, kw_only=True):
    """A node agent is up. `boot_id` is new at every start of its process."""

    SUBJECT = "evt.node.{node_id}.joined"
    node_id: NodeId
    boot_id: Token
    spec: NodeSpec


class NodeLeaving(Event, frozen=True, kw_only=True):
    """The agent was asked to stop: it drains and takes no more leases."""

    SUBJECT = "evt.node.{node_id}.leaving"
    node_id: NodeId
    boot_id: Token


class RayNodeStarted(Event, frozen=True, kw_only=True):
    """The Ray node of a lease is a member of its cluster."""

    SUBJECT = "evt.node.{node_id}.ray_started"
    node_id: NodeId
    lease_id: Token
    fence: int
    role: Role
    generation: int = 1
    start_ms: Annotated[int, msgspec.Meta(ge=0)]


class RayNodeFailed(Event, frozen=True, kw_only=True):
    """The Ray node of a lease did not start, or ended by itself."""

    SUBJECT = "evt.node.{node_id}.ray_failed"
    node_id: NodeId
    lease_id: Token
    fence: int
    generation: int = 1
    detail: Text


class RayNodeStopped(Event, frozen=True, kw_only=True):
    """No process of the lease is left on the node."""

    SUBJECT = "evt.node.{node_id}.ray_stopped"
    node_id: NodeId
    lease_id: Token
    fence: int
    reason: Literal["commanded", "lease_over", "superseded"]


class Heartbeat(Telemetry, frozen=True, kw_only=True):
    """The node is alive; sent every 5 s, and at once after a reconnect."""

    SUBJECT = "tel.node.{node_id}.heartbeat"
    node_id: NodeId
    boot_id: Token
    leases: Annotated[tuple[Token, ...], msgspec.Meta(max_length=64)] = ()
    draining: bool = False


class NodeAdmitted(Event, frozen=True, kw_only=True):
    """The node stands in its pool and may be leased."""

    SUBJECT = "evt.fleet.{node_id}.admitted"
    node_id: NodeId
    spec: NodeSpec


class NodeLost(Event, frozen=True, kw_only=True):
    """The network no longer hears the node; its leases end at `last_seen_at`."""

    SUBJECT = "evt.fleet.{node_id}.lost"
    node_id: NodeId
    reason: Literal["disconnected", "silent", "banned"]
    last_seen_at: UnixMs
    lease_ids: tuple[Token, ...] = ()


class NodeWithdrawn(Event, frozen=True, kw_only=True):
    """The node left of its own accord, after draining."""

    SUBJECT = "evt.fleet.{node_id}.withdrawn"
    node_id: NodeId


class StartRayNode(Command, frozen=True, kw_only=True):
    """Start the Ray node of a lease, as head, or as worker of the head at `head_address`.

    A command whose `fence` is lower than one the node has seen for a lease of its own is void.
    """

    SUBJECT = "cmd.node.{node_id}.start_ray"
    node_id: NodeId
    lease: LeaseTerms
    booking_id: Token
    generation: int = 1
    role: Role
    head_address: Word
    head_ports: PortBlock
    cluster_token: ClusterToken
    cluster_nodes: Annotated[int, msgspec.Meta(ge=1)]
    gpus: Annotated[int, msgspec.Meta(ge=0)]
    lease_expires_at: UnixMs


class StopRayNode(Command, frozen=True, kw_only=True):
    """End every process of a lease."""

    SUBJECT = "cmd.node.{node_id}.stop_ray"
    node_id: NodeId
    lease_id: Token
    fence: int


class GetFleet(Query, frozen=True, kw_only=True):
    """Ask which nodes the network has; `identity` is the one who asks."""

    SUBJECT = "qry.fleet.{identity}.nodes"
    identity: PartnerId
    model: Word | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 200


class FleetNode(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the fleet."""

    node_id: NodeId
    name: Word
    model: Word
    gpus: int
    country: str
    bandwidth_tier: str
    state: Literal["free", "leased", "draining", "lost"]
    reputation_millis: int
    last_seen_at: UnixMs
    vram_mb: int = 0
    ask_hourly: Money | None = None
    """What the provider asks for an hour of each GPU; None: any price."""


class FleetView(Reply, frozen=True, kw_only=True):
    nodes: tuple[FleetNode, ...]


class LeaseRejected(Event, frozen=True, kw_only=True):
    """The node refuses a command, and says why."""

    SUBJECT = "evt.node.{node_id}.lease_rejected"
    node_id: NodeId
    lease_id: Token
    fence: int
    reason: Reason
    detail: Text = ""
