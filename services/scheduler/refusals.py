"""What the scheduler says of a message it does not take: to its sender, on his own subject."""

import hashlib

from wire.access import MessageRefused
from wire.catalog import message_on
from wire.message import Message
from wire.quote import Refused
from wire.values import Reason, Refusal

_SENDERS = ("partner", "node_id", "identity", "operator")


def refused(message: Message, identity: str, reason: Reason, detail: str) -> MessageRefused:
    """A message that could be read, but not be taken."""
    return MessageRefused(
        identity=identity,
        subject_refused=message.subject(),
        message_id=message.id,
        refusal=Refusal(reason=reason, detail=detail),
    )


def turn_away(subject: str, message_id: str, body: bytes, reason: str, detail: str) -> Message | None:
    """A message that the bus could not read, or whose id was another one's; None where nobody can be told."""
    identity = sender_of(subject)
    if identity is None:
        return None
    return MessageRefused(
        identity=identity,
        subject_refused=subject,
        message_id=message_id[:200],
        body_digest=hashlib.sha256(body).hexdigest(),
        refusal=Refusal(reason=Reason(reason), detail=detail[:2000]),
    )


def refuse_query(subject: str, reason: str, detail: str) -> Refused:
    """What the bus answers to a query that is none."""
    return Refused(refusal=Refusal(reason=Reason(reason), detail=detail[:2000]))


def sender_of(subject: str) -> str | None:
    """Whose subject it is: the bus has granted it to nobody else."""
    tokens = subject.split(".")
    kind = message_on(subject)
    if kind is None:
        # An unknown verb: in a subject the sender stands behind the noun.
        return tokens[2] if len(tokens) > 3 else None
    names = [token.strip("{}") for token in kind.SUBJECT.split(".")]
    return next((tokens[names.index(sender)] for sender in _SENDERS if sender in names), None)
