"""How far a node is trusted, as everyone may hear it."""

from typing import Annotated

import msgspec

from wire.message import Event, Query, Reply, UnixMs
from wire.values import NodeId, PartnerId, ReputationMillis, Text


class NodeScored(Event, frozen=True, kw_only=True):
    """A node's reputation moved; matching ranks by the lower bound."""

    SUBJECT = "evt.reputation.{node_id}.scored"
    node_id: NodeId
    lower_millis: ReputationMillis
    mean_millis: ReputationMillis
    upper_millis: ReputationMillis
    because: Text


class GetReputation(Query, frozen=True, kw_only=True):
    """Ask for a node's reputation and what moved it."""

    SUBJECT = "qry.reputation.{identity}.score"
    identity: PartnerId
    node_id: NodeId


class ReputationMove(msgspec.Struct, frozen=True, kw_only=True):
    """One event that moved a reputation, with its weight before decay."""

    at: UnixMs
    because: Text
    good_millis: Annotated[int, msgspec.Meta(ge=0)]
    bad_millis: Annotated[int, msgspec.Meta(ge=0)]


class ReputationGiven(Reply, frozen=True, kw_only=True):
    node_id: NodeId
    lower_millis: ReputationMillis
    mean_millis: ReputationMillis
    upper_millis: ReputationMillis
    rank: int
    moves: tuple[ReputationMove, ...]
