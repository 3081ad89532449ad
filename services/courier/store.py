"""The courier's rows: routes of running jobs."""

import msgspec

from libs.bus.rows import Rows as BusRows


class Route(msgspec.Struct, frozen=True):
    """A job in flight: `partner` owns it, `node_id` runs its newest `attempt`."""

    booking_id: str
    job_id: str
    partner: str
    node_id: str
    attempt: int


class Rows(BusRows):
    async def open_route(self, route: Route) -> None:
        """Record the route unless a newer attempt is known."""
        await self.connection.execute(
            """
            INSERT INTO routes (booking_id, job_id, partner, node_id, attempt) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (partner, booking_id, job_id) DO UPDATE SET node_id = $4, attempt = $5 WHERE routes.attempt < $5
            """,
            route.booking_id,
            route.job_id,
            route.partner,
            route.node_id,
            route.attempt,
        )

    async def route(self, node_id: str, booking_id: str, job_id: str, attempt: int) -> Route | None:
        """The job that this node runs under these ids; whose it is, the node need not know."""
        row = await self.connection.fetchrow(
            "SELECT * FROM routes WHERE node_id = $1 AND booking_id = $2 AND job_id = $3 AND attempt = $4",
            node_id,
            booking_id,
            job_id,
            attempt,
        )
        return Route(**dict(row)) if row else None

    async def routes(self) -> list[Route]:
        return [Route(**dict(row)) for row in await self.connection.fetch("SELECT * FROM routes")]

    async def close_routes(self, partner: str, booking_id: str) -> list[Route]:
        rows = await self.connection.fetch(
            "DELETE FROM routes WHERE partner = $1 AND booking_id = $2 RETURNING *", partner, booking_id
        )
        return [Route(**dict(row)) for row in rows]
