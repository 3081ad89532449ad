"""Who is known, in memory: read from the rows at first, told by the gate's own events at once, and checked against the
rows every few seconds, so that the server never waits for PostgreSQL and no replica misses a ban for long."""

from collections.abc import Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from libs.bus.reach import Reach
from services.gate.domain.admission import Known
from services.gate.domain.registration import Holder
from services.gate.store import Rows
from wire.access import IdentityBanned, PartnerRegistered
from wire.message import decode

Changed = Callable[[str], Awaitable[None]]
_OVERLAP_MS = 60_000  # a row's time is when its transaction began; it is there only when that has ended


class Directory:
    """`known` is a living view: it changes under whoever holds it."""

    def __init__(self, operators: dict[str, str]) -> None:
        self._partners: dict[str, str] = {}
        self._bans: dict[str, str] = {}
        self.known = Known(operators, self._partners, self._bans)
        self.shut_out: set[str] = set()
        """The identities of banned keys."""
        self._read_until = 0

    async def listen(self, client: Client, banned: Changed, registered: Changed) -> list[Subscription]:
        """The two are told of the public key, once it is in `known`."""

        async def hear_ban(message: Msg) -> None:
            event = decode(IdentityBanned, message.subject, message.data)
            self._ban(event.public_key, event.reason)
            await banned(event.public_key)

        async def hear_registration(message: Msg) -> None:
            event = decode(PartnerRegistered, message.subject, message.data)
            self._partners[event.public_key] = event.partner
            await registered(event.public_key)

        return [
            await client.subscribe(IdentityBanned.pattern(), cb=hear_ban),
            await client.subscribe(PartnerRegistered.pattern(), cb=hear_registration),
        ]

    async def read(self, reach: Reach, now: int) -> list[str]:
        """Take in what is new in the rows; returns the keys whose ban was not known. `now` is Unix ms."""
        since = max(0, self._read_until - _OVERLAP_MS)

        async def fetch(rows: Rows) -> tuple[list[Holder], list[tuple[str, str]]]:
            return await rows.partners_since(since), await rows.bans_since(since)

        partners, bans = await reach.transact("directory", fetch)
        self._partners.update({holder.public_key: holder.partner for holder in partners})
        fresh = [(key, reason) for key, reason in bans if key not in self._bans]
        for key, reason in fresh:
            self._ban(key, reason)
        self._read_until = now
        return [key for key, _ in fresh]

    def _ban(self, public_key: str, reason: str) -> None:
        self._bans[public_key] = str(reason)
        # Both: it may have come in as a node before it had a name.
        self.shut_out |= {public_key, self.known.identity_of(public_key)}
