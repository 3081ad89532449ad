"""What liveness reads off the bus in its own, lean shapes: heartbeats, and the NATS server's word on its clients."""

from typing import Annotated

import msgspec

from libs.local.nats import CONNECTED, CONNECTIONS
from libs.local.outsiders import OUTSIDE_CONNECTIONS

Name = Annotated[str, msgspec.Meta(max_length=64)]


class Beat(msgspec.Struct, frozen=True, gc=False):
    """What of a Heartbeat is looked at, a fifth of the time its whole schema takes: 200,000 of them may come a second.

    Its ids need no pattern: one that is not that of the subject, or of a process we know, counts for nothing.
    """

    node_id: Name
    boot_id: Name
    leases: Annotated[tuple[Name, ...], msgspec.Meta(max_length=64)] = ()
    draining: bool = False


class Peer(msgspec.Struct, frozen=True):
    """`user` is the public key with which a client proved who it is, for static users and the callout's alike."""

    id: int
    user: str = ""


class ServerName(msgspec.Struct, frozen=True):
    id: str


class Advisory(msgspec.Struct, frozen=True):
    """What the server says of a connection that came or went."""

    server: ServerName
    client: Peer
    reason: str = ""

    @property
    def connection(self) -> str:
        return f"{self.server.id}/{self.client.id}"


class Connection(msgspec.Struct, frozen=True):
    cid: int
    authorized_user: str = ""


class Connections(msgspec.Struct, frozen=True):
    server_id: str
    total: int
    connections: list[Connection] = msgspec.field(default_factory=list)


COMINGS_AND_GOINGS = CONNECTED.rpartition(".")[0] + ".*"
"""Both in one subscription: each has a task of its own, and a connection must not be seen to go before it came."""

CENSUSES = (CONNECTIONS, OUTSIDE_CONNECTIONS)


class Census(msgspec.Struct, frozen=True):
    """A page of the server's list of connections."""

    data: Connections
