"""What an operator does with the network: let partners in, book deposits, close epochs, audit, ban, watch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import TypeVar, cast

from bivouac import amounts
from bivouac.client import Caller
from bivouac.connection import checked, new_id, stamped
from bivouac.errors import Refused, TookTooLong
from bivouac.story import Story
from wire.access import BanIdentity, IdentityBanned, MessageRefused, PartnerRefused, PartnerRegistered, RegisterPartner
from wire.ledger import AuditReport, CloseEpoch, Deposit, DepositBooked, EpochClosed, EpochRefused, GetAudit
from wire.message import Command, Message
from wire.streams import EVENTS
from wire.values import Money, Reason, Refusal

M = TypeVar("M", bound=Message)
_ANSWER_SECONDS = 30.0
_EVENTS_KEPT = 100_000
_MEND_SECONDS = 5.0


class Operator(Caller):
    """An operator of the network; its own key is what it may do by."""

    async def register_partner(self, partner: str, public_key: str) -> PartnerRegistered:
        """Lets the holder of `public_key` speak as `partner`; raises Refused when that name has another key."""
        command = RegisterPartner(operator=self.identity, partner=partner, public_key=public_key)
        heard = await self._say(
            command, (PartnerRegistered.pattern(partner=partner), PartnerRefused.pattern(partner=partner))
        )
        return cast(PartnerRegistered, heard)

    async def deposit(self, partner: str, amount: Money | Decimal | str, reference: str | None = None) -> DepositBooked:
        """Books a payment of a partner; `reference` names it, and it is booked once however often it is told."""
        money = amount if isinstance(amount, Money) else amounts.parse_usd(str(amount))
        command = Deposit(operator=self.identity, partner=partner, amount=money, reference=reference or new_id("pay"))
        heard = await self._say(
            command,
            (DepositBooked.pattern(partner=partner),),
            lambda message: not isinstance(message, DepositBooked) or message.reference == command.reference,
        )
        return cast(DepositBooked, heard)

    async def close_epoch(self) -> EpochClosed:
        """Closes the running epoch and returns what it paid to whom; raises Refused when it cannot be closed."""
        command = CloseEpoch(operator=self.identity)
        return cast(EpochClosed, await self._say(command, (EpochClosed.pattern(), EpochRefused.pattern())))

    async def ban(self, public_key: str, reason: Reason = Reason.not_allowed, evidence: str = "") -> IdentityBanned:
        """Shuts out a key; in force when this returns."""
        command = BanIdentity(operator=self.identity, public_key=public_key, reason=reason, evidence=evidence)
        heard = await self._say(command, (IdentityBanned.pattern(public_key=public_key),))
        return cast(IdentityBanned, heard)

    async def audit(self) -> AuditReport:
        """Every invariant of the ledger, checked again from the first transfer on."""
        return await self.connection.ask(GetAudit(identity=self.identity), AuditReport, timeout=120.0)

    async def watch(self) -> AsyncIterator[Message]:
        """Every event of the network from now on."""
        story: Story[Message] = Story(_EVENTS_KEPT)
        listening = await self.connection.listen(EVENTS.subjects, story.add)
        position = 0
        try:
            while True:
                fresh, position = story.since(position)
                for message in fresh:
                    yield message
                if not fresh and not await story.grows(_MEND_SECONDS):
                    await self.connection.mend()
        finally:
            await listening.close()

    async def _say(
        self, command: Command, answers: Sequence[str], ours: Callable[[Message], bool] = lambda message: True
    ) -> Message:
        """Says a command once its answers are listened to, and waits for the first of them that is `ours`."""
        command = stamped(command)
        checked(command)
        answered: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        def hear(message: Message) -> None:
            foreign = isinstance(message, MessageRefused) and message.message_id != command.id
            if not answered.done() and not foreign and ours(message):
                answered.set_result(message)

        listening = await self.connection.listen((*answers, MessageRefused.pattern(identity=self.identity)), hear)
        try:
            await self.connection.publish(command)
            message = await asyncio.wait_for(answered, _ANSWER_SECONDS)
        except TimeoutError as error:
            raise TookTooLong(
                f"The network has the command but did not answer within {_ANSWER_SECONDS:.0f} s; it may still be done."
            ) from error
        finally:
            await listening.close()
        refusal: Refusal | None = getattr(message, "refusal", None)
        if refusal is not None:
            raise Refused(refusal)
        return message
