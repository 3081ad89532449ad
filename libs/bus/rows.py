"""The base of every store: the rows of one transaction, and what this transaction says to others."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from wire.message import Message, derived_id

if TYPE_CHECKING:
    import asyncpg


class Rows:
    """Rows of one message's transaction. `now` (Unix ms) and `cause_id` are what its events are stamped with."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], now: int, cause_id: str) -> None:
        self.connection = connection
        self.now = now
        self.cause_id = cause_id
        self.said: list[Message] = []
        self._verbs: Counter[str] = Counter()

    def say(self, *messages: Message) -> None:
        """Publish these once this transaction has committed, in this order.

        A message without an id gets the one derived from its cause and its verb, further ones of the same verb
        a number as well: the same work on the same cause makes the same ids.
        """
        for message in messages:
            if not message.id:
                verb = message.verb()
                self._verbs[verb] += 1
                nth = self._verbs[verb]
                outcome = verb if nth == 1 else f"{verb}.{nth}"
                message = message.stamped(derived_id(self.cause_id, outcome), self.now)
            self.said.append(message if message.at else message.stamped(message.id, self.now))
