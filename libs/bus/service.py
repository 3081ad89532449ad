"""What a service is to the bus: its tables of handlers, as data; serving them is the bus's business alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wire.message import Message, Query, Reply, Telemetry

if TYPE_CHECKING:
    from libs.bus.reach import Reach
    from libs.bus.rows import Rows

# The second parameter is the service's own Rows class, which a mapping over all services cannot name.
Handler = Callable[[Any, Any], Awaitable[None]]
"""(message, rows): inside one transaction; nothing it is given can reach the network."""

Answer = Callable[[Any, Any], Awaitable[Reply]]
"""(query, rows): inside a read-only transaction."""

Effect = Callable[[Any, "Reach"], Awaitable[Sequence[Message]]]
"""(message, reach): idempotent, may use the network. What it returns is recorded, then the message acknowledged."""

Refused = Literal["malformed", "unknown_type", "id_reused", "internal"]
"""Why the bus itself turns a message away: words that wire.values.Reason has too."""


@dataclass(frozen=True)
class Every:
    """A task in a transaction of its own every `seconds`, never twice at once, skipped while the database is away."""

    seconds: float
    task: Callable[[Any], Awaitable[None]]
    name: str


@dataclass(frozen=True)
class Service:
    """One service as the bus sees it."""

    name: str
    """PostgreSQL schema and role, queue group, and name of its durable consumers."""

    migrations: str
    """The package whose migrations/*.sql make its tables."""

    rows: Callable[[Any, int, str], Rows]
    """Its store: Rows(connection, now_ms, cause_id)."""

    handles: Mapping[type[Message], Handler] = field(default_factory=dict)
    answers: Mapping[type[Query], Answer] = field(default_factory=dict)
    effects: Mapping[type[Message], Effect] = field(default_factory=dict)
    every: Sequence[Every] = ()

    hears: Mapping[type[Telemetry], Callable[[str, bytes], None]] = field(default_factory=dict)
    """Telemetry straight from the connection: (subject, body), synchronous and fast; what it raises is counted."""

    background: Sequence[Callable[[Reach], Awaitable[None]]] = ()
    """Long-running tasks, each started again with growing pauses when it raises."""

    refuse: Callable[[str, str, bytes, Refused, str], Message | None] | None = None
    """(subject, message_id, body, reason, detail) -> what to publish about a message that was turned away."""

    refuse_query: Callable[[str, Refused, str], Reply | None] | None = None
    """(subject, reason, detail) -> the reply to a query that was turned away; None answers with an error header."""

    owns: Sequence[str] = ()
    """Nouns whose commands are this service's alone: all of `cmd.<noun>.>` reaches it, so that an unknown verb gets a
    refusal instead of lying in the work queue unseen. Other services then handle none of them."""

    traced: Collection[type[Message]] = ()
    """Kinds that begin a trace whenever they arrive without one; of all others one in a hundred does."""

    keep_days: int = 35
    """How long sent outbox rows are kept (0: for ever); inbox rows twice as long. Longer than any stream keeps."""
