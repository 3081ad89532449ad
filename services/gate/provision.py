"""What must exist before an identity is let in: a node's consumer of its commands, a partner's bucket.

A node that comes back soon costs nothing. The consumer of one that stays away vanishes by itself, since anyone may join
and never come again; the commands it has not taken stay in their stream, and a new consumer finds them there.
"""

import time

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from libs.objects import bucket
from services.gate.domain.admission import Admitted
from wire.names import NODE_COMMANDS_STREAM, bucket_of_partner, node_consumer
from wire.node import StartRayNode

ABANDONED_SECONDS = 3600
_SURE_SECONDS = ABANDONED_SECONDS / 3
_ACK_WAIT_SECONDS = 30
_DELIVERIES_MAX = 10
_UNACKED_MAX = 64
_PULLS_MAX = 16
_REMEMBERED_MAX = 200_000

COMMANDS_OF_NODE = ".".join([*StartRayNode.SUBJECT.split(".")[:-1], "*"])


class Provisions:
    """What this replica has seen to exist, and when."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream = jetstream
        self._seen: dict[str, float] = {}

    def ready(self, admitted: Admitted) -> bool:
        if admitted.role == "operator":
            return True
        return time.monotonic() - self._seen.get(admitted.identity, float("-inf")) < _SURE_SECONDS

    async def make(self, admitted: Admitted) -> None:
        """Harmless where it is there already. Raises a NATS error or TimeoutError where JetStream is away."""
        if admitted.role == "node":
            await self._jetstream.add_consumer(NODE_COMMANDS_STREAM, _consumer(admitted.identity))
        elif admitted.role == "partner":
            await bucket(self._jetstream, bucket_of_partner(admitted.identity))
        if len(self._seen) >= _REMEMBERED_MAX:
            self._seen.clear()
        self._seen[admitted.identity] = time.monotonic()

    def forget(self) -> None:
        """The server may be another one, with another store."""
        self._seen.clear()


def _consumer(node_id: str) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=node_consumer(node_id),
        filter_subject=COMMANDS_OF_NODE.format(node_id=node_id),
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=_ACK_WAIT_SECONDS,
        max_deliver=_DELIVERIES_MAX,
        max_ack_pending=_UNACKED_MAX,
        max_waiting=_PULLS_MAX,
        inactive_threshold=ABANDONED_SECONDS,
    )
