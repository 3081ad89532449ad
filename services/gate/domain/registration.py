"""Whether a name may be given to a key: a name has one key, a key one name, and some names are taken."""

import msgspec

from wire.access import PartnerRefused, PartnerRegistered, RegisterPartner
from wire.catalog import CATALOG
from wire.values import Reason, Refusal

# An inbox is granted by name, so a partner called `ledger` would hear the ledger's mail; `network` stands in the
# subject of what is everybody's.
RESERVED: frozenset[str] = frozenset(party for entry in CATALOG for party in (*entry.said_by, *entry.heard_by)) | {
    "network",
    "callout",
}


class Holder(msgspec.Struct, frozen=True):
    """A registered partner."""

    partner: str
    public_key: str


def register(
    order: RegisterPartner, holders: tuple[Holder, ...], operators: dict[str, str], banned: bool
) -> PartnerRegistered | PartnerRefused:
    """`holders`: who has that name or that key now. The same again is answered the same, and changes nothing."""
    if Holder(order.partner, order.public_key) in holders:
        return PartnerRegistered(partner=order.partner, public_key=order.public_key)
    if order.partner in RESERVED or order.partner in operators.values():
        return _refused(order, Reason.not_allowed, "The name belongs to the network.", "Choose another name.")
    if order.public_key in operators:
        return _refused(order, Reason.not_allowed, "The key is an operator's.", "Make the partner a key of its own.")
    if banned:
        return _refused(order, Reason.banned, "The key is banned.", "Make a new key.")
    if any(holder.partner == order.partner for holder in holders):
        return _refused(order, Reason.already_registered, "The name has another key.", "Choose another name.")
    if holders:
        return _refused(order, Reason.already_registered, "The key has another name.", "Make the partner a new key.")
    return PartnerRegistered(partner=order.partner, public_key=order.public_key)


def _refused(order: RegisterPartner, reason: Reason, detail: str, nearest: str) -> PartnerRefused:
    return PartnerRefused(partner=order.partner, refusal=Refusal(reason=reason, detail=detail, nearest=nearest))
