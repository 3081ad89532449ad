"""What the courier does on each message: copy, then say so."""

from collections.abc import Mapping, Sequence

from libs.bus.reach import Reach
from libs.bus.service import Effect, Handler
from services.courier import carriage
from services.courier.store import Route, Rows
from wire.booking import BookingEnded
from wire.job import JobAccepted, JobExited, JobFilesDelivered, JobFilesMissing, JobResultDelivered
from wire.message import Message
from wire.values import Reason, Refusal


async def bring_files(accepted: JobAccepted, reach: Reach) -> Sequence[Message]:
    route = Route(accepted.booking_id, accepted.job_id, accepted.partner, accepted.node_id, accepted.attempt)

    async def open_route(rows: Rows) -> None:
        await rows.open_route(route)

    await reach.transact(accepted.id, open_route)
    why = await carriage.to_node(reach, accepted.partner, accepted.node_id, accepted.files)
    if why:
        return [
            JobFilesMissing(
                partner=accepted.partner,
                booking_id=accepted.booking_id,
                job_id=accepted.job_id,
                attempt=accepted.attempt,
                refusal=Refusal(
                    reason=Reason.unknown_artefact, detail=why, nearest="Upload the files, then submit again."
                ),
            )
        ]
    return [
        JobFilesDelivered(
            partner=accepted.partner,
            booking_id=accepted.booking_id,
            job_id=accepted.job_id,
            attempt=accepted.attempt,
            node_id=accepted.node_id,
        )
    ]


async def bring_result(exited: JobExited, reach: Reach) -> Sequence[Message]:
    """A node may deliver for the job it was given, and for no other: the route decides, not its message."""

    async def find_route(rows: Rows) -> Route | None:
        return await rows.route(exited.node_id, exited.booking_id, exited.job_id, exited.attempt)

    route = await reach.transact(exited.id, find_route)
    if route is None:
        return []
    why = await carriage.to_partner(reach, exited.node_id, route.partner, (exited.result, exited.log))
    return [
        JobResultDelivered(
            partner=route.partner,
            booking_id=route.booking_id,
            job_id=route.job_id,
            node_id=exited.node_id,
            attempt=exited.attempt,
            status=exited.status,
            detail=exited.detail,
            result=None if why else exited.result,
            log=None if why else exited.log,
            refusal=Refusal(reason=Reason.unknown_artefact, detail=why) if why else None,
        )
    ]


async def close_routes(ended: BookingEnded, rows: Rows) -> None:
    await rows.close_routes(ended.partner, ended.booking_id)


HANDLES: Mapping[type[Message], Handler] = {BookingEnded: close_routes}
EFFECTS: Mapping[type[Message], Effect] = {JobAccepted: bring_files, JobExited: bring_result}
