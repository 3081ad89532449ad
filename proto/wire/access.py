"""Who may connect: partners registered, identities banned, and messages that were refused at the door."""

from typing import Annotated

import msgspec

from wire.message import Command, Event, Token
from wire.values import NodeId, PartnerId, Reason, Refusal, Text

Identity = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_\-]{1,64}$(?!\n)")]


class RegisterPartner(Command, frozen=True, kw_only=True):
    """Let the holder of `public_key` speak as `partner`."""

    SUBJECT = "cmd.operator.{operator}.register_partner"
    operator: PartnerId
    partner: PartnerId
    public_key: NodeId


class PartnerRegistered(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.gate.{partner}.registered"
    partner: PartnerId
    public_key: NodeId


class PartnerRefused(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.gate.{partner}.refused"
    partner: PartnerId
    refusal: Refusal


class BanIdentity(Command, frozen=True, kw_only=True):
    """Shut out a key, in force at once."""

    SUBJECT = "cmd.operator.{operator}.ban"
    operator: PartnerId
    public_key: NodeId
    reason: Reason
    evidence: Text = ""


class IdentityBanned(Event, frozen=True, kw_only=True):
    SUBJECT = "evt.gate.{public_key}.banned"
    public_key: NodeId
    reason: Reason
    evidence: Text = ""


class MessageRefused(Event, frozen=True, kw_only=True):
    """A message of `identity` was not a message: `message_id` is what could be read of its id."""

    SUBJECT = "evt.refusal.{identity}.refused"
    identity: Identity
    subject_refused: Text
    message_id: Annotated[str, msgspec.Meta(max_length=200)] = ""
    body_digest: Token | None = None
    refusal: Refusal
