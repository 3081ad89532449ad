"""Who is tested: nodes enter the schedule when they are admitted and leave it when they are gone."""

from collections.abc import Mapping

from libs.bus.service import Handler
from services.prober.store import Rows
from wire.message import Message
from wire.node import NodeAdmitted, NodeLost, NodeWithdrawn


async def begin(admitted: NodeAdmitted, rows: Rows) -> None:
    """A node is tested as soon as it comes, before it has earned anything."""
    await rows.schedule(admitted.node_id, rows.now, admitted.spec.gpus)


async def end_lost(lost: NodeLost, rows: Rows) -> None:
    await rows.retire(lost.node_id)


async def end_withdrawn(withdrawn: NodeWithdrawn, rows: Rows) -> None:
    await rows.retire(withdrawn.node_id)


HANDLES: Mapping[type[Message], Handler] = {NodeAdmitted: begin, NodeLost: end_lost, NodeWithdrawn: end_withdrawn}
