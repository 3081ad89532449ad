"""The prober's rows: the schedule of test jobs and their verdicts."""

import msgspec

from libs.bus.rows import Rows as BusRows
from services.prober.domain.verdict import Answered


class Rows(BusRows):
    async def schedule(self, node_id: str, next_at: int, cards: int = 0) -> None:
        """Take a node into the schedule; one that is known keeps its history and its earlier time."""
        await self.connection.execute(
            """
            INSERT INTO schedule (node_id, next_at, cards) VALUES ($1, $2, $3)
            ON CONFLICT (node_id)
            DO UPDATE SET live = true, next_at = least(schedule.next_at, $2), cards = $3
            """,
            node_id,
            next_at,
            cards,
        )

    async def retire(self, node_id: str) -> None:
        await self.connection.execute("UPDATE schedule SET live = false WHERE node_id = $1", node_id)

    async def due(self, limit: int) -> list[tuple[str, bool]]:
        """Nodes whose time has come, each with whether it is new or has failed; locked: one prober takes each."""
        rows = await self.connection.fetch(
            """
            SELECT node_id, (passed = 0 OR failed > 0 AND passed < failed * 10) AS suspect FROM schedule
            WHERE live AND next_at <= $1 ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED
            """,
            self.now,
            limit,
        )
        return [(row["node_id"], row["suspect"]) for row in rows]

    async def cards(self, node_id: str) -> int:
        return int(await self.connection.fetchval("SELECT cards FROM schedule WHERE node_id = $1", node_id) or 0)

    async def draw(self, node_id: str, next_at: int) -> None:
        await self.connection.execute("UPDATE schedule SET next_at = $2 WHERE node_id = $1", node_id, next_at)

    async def record_verdict(
        self, probe_id: str, node_id: str, verdict: str, seed: str, answers: list[Answered]
    ) -> None:
        await self.connection.execute(
            """
            INSERT INTO verdicts (probe_id, node_id, at, verdict, seed, questions) VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT DO NOTHING
            """,
            probe_id,
            node_id,
            self.now,
            verdict,
            seed,
            msgspec.json.encode(answers).decode(),
        )
        if verdict in ("passed", "failed"):
            await self.connection.execute(
                f"UPDATE schedule SET {verdict} = {verdict} + 1 WHERE node_id = $1",
                node_id,
            )
