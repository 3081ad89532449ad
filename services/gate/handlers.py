"""What the gate does on each command: load, decide, record. Kicking is for the doorkeeper, who hears what is said."""

from collections.abc import Mapping

from libs.bus.service import Handler
from services.gate.domain.registration import register
from services.gate.store import Rows
from wire.access import BanIdentity, PartnerRegistered, RegisterPartner
from wire.message import Message


async def register_partner(order: RegisterPartner, rows: Rows) -> None:
    holders = await rows.holders(order.partner, order.public_key)
    outcome = register(order, holders, rows.operators, await rows.is_banned(order.public_key))
    if isinstance(outcome, PartnerRegistered):
        await rows.add_partner(outcome.partner, outcome.public_key)
    rows.say(outcome)


async def ban_identity(order: BanIdentity, rows: Rows) -> None:
    rows.say(await rows.ban(order.public_key, order.reason, order.evidence))


HANDLES: Mapping[type[Message], Handler] = {RegisterPartner: register_partner, BanIdentity: ban_identity}
