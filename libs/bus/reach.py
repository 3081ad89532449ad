"""What effects and background tasks may reach: the network, and transactions of the service's own rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from libs.bus import ask
from wire.message import Query, Reply

if TYPE_CHECKING:
    import asyncpg
    from nats.aio.client import Client
    from nats.js import JetStreamContext

    from libs.settings import BusSettings

T = TypeVar("T")
R = TypeVar("R", bound=Reply)


class Transactions(Protocol):
    """Whoever runs the service's transactions."""

    async def transact(self, cause_id: str, work: Callable[[Any], Awaitable[T]]) -> T: ...


class Reach:
    """Handed to effects and background tasks; handlers get Rows and nothing else."""

    def __init__(
        self,
        nats: Client,
        jetstream: JetStreamContext,
        pool: asyncpg.Pool[asyncpg.Record],
        settings: BusSettings,
        transactions: Transactions,
    ) -> None:
        self.nats = nats
        self.jetstream = jetstream
        self.pool = pool
        self.settings = settings
        self._transactions = transactions

    async def transact(self, cause_id: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work` on the service's Rows in one transaction, outbox included; waits while the database is away.

        The ids of what it says derive from `cause_id`: work that runs twice under one cause says the same
        messages, and the second time they are not sent again. `work` may be run again, so it keeps no state.
        """
        return await self._transactions.transact(cause_id, work)

    async def ask(self, query: Query, reply_type: type[R], timeout: float = 5.0) -> R:
        """Ask another service; raises ask.AskFailed or TimeoutError."""
        return await ask.ask(self.nats, query, reply_type, timeout)
