"""What the gate does on each command: load, decide, record. Kicking is for the doorkeeper, who hears what is said."""

import hashlib
from collections.abc import Mapping

from libs.bus.service import Handler
from services.gate.domain.registration import register
from services.gate.store import Rows
from wire.access import BanIdentity, MessageRefused, PartnerRegistered, RegisterPartner
from wire.message import Message
from wire.values import Reason, Refusal


async def register_partner(order: RegisterPartner, rows: Rows) -> None:
    holders = await rows.holders(order.partner, order.public_key)
    outcome = register(order, holders, rows.operators, await rows.is_banned(order.public_key))
    if isinstance(outcome, PartnerRegistered):
        await rows.add_partner(outcome.partner, outcome.public_key)
    rows.say(outcome)


async def ban_identity(order: BanIdentity, rows: Rows) -> None:
    rows.say(await rows.ban(order.public_key, order.reason, order.evidence))


def refuse(subject: str, message_id: str, body: bytes, reason: str, detail: str) -> MessageRefused:
    """What the bus says of a command that is none; the third token of its subject is who may publish there."""
    return MessageRefused(
        identity=subject.split(".")[2],
        subject_refused=subject,
        message_id=message_id[:200],
        body_digest=hashlib.sha256(body).hexdigest(),
        refusal=Refusal(reason=Reason(reason), detail=detail[:2000]),
    )


HANDLES: Mapping[type[Message], Handler] = {RegisterPartner: register_partner, BanIdentity: ban_identity}
