"""What each identity may publish and hear: the catalogue's `said_by` and `heard_by`, narrowed to its own subjects.

An identity stands in a subject as the first field that its role knows (`partner`, `node_id`, `identity`, …). It hears
everything about itself, so that one subscription follows a whole booking; it says what the catalogue names and no more.
"""

from typing import Literal, get_args

import msgspec

from wire import border, names
from wire.catalog import CATALOG, Party
from wire.message import Command, Message, Query
from wire.streams import DEAD, EVENTS

Role = Literal["node", "partner", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)

_IDENTITY_FIELDS: dict[Role, tuple[str, ...]] = {
    "node": ("node_id", "identity"),
    "partner": ("partner", "identity"),
    "operator": ("operator", "identity"),
}
_EVERYTHING = (*EVENTS.subjects, names.ALL_TELEMETRY)
_ANSWER_SECONDS = 120


class Permissions(msgspec.Struct, frozen=True):
    """Subjects one may publish on and subscribe to; `answer_seconds` is how long a query that one hears may be
    answered, once; 0: not at all."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answer_seconds: int = 0


def permissions(role: Role, identity: str) -> Permissions:
    """What the holder of `identity` may do; a node's identity is its public key, anyone else's a name."""
    said = tuple(_said(entry.message, role, identity) for entry in CATALOG if role in entry.said_by)
    own_inbox = f"{names.inbox_prefix(identity)}.>"
    if role == "operator":
        return Permissions(said, (*_EVERYTHING, own_inbox))
    heard = {
        subject for entry in CATALOG if role in entry.heard_by for subject in _heard(entry.message, role, identity)
    }
    if role == "partner":
        return Permissions((*said, *_bucket(names.bucket_of_partner(identity))), (*sorted(heard), own_inbox))
    return Permissions(
        (*said, *_own_commands(identity), *_bucket(names.bucket_of_node(identity))),
        (*sorted(heard), own_inbox),
        _ANSWER_SECONDS,
    )


def _said(message: type[Message], role: Role, identity: str) -> str:
    field = _identity_field(message, role)
    if field is None:
        raise LookupError(f"{message.__name__} is said by a {role}, but its subject does not say by which.")
    return message.pattern(**{field: identity})


def _heard(message: type[Message], role: Role, identity: str) -> tuple[str, ...]:
    if issubclass(message, Command):
        return ()  # a command is pulled from its stream, so that it is not lost while the node is away
    field = _identity_field(message, role)
    if field is None:
        return (message.pattern(),)  # about nobody: public
    own = message.pattern(**{field: identity})
    if issubclass(message, Query):
        return (own,)
    tokens = message.SUBJECT.split(".")
    return (".".join([*own.split(".")[: tokens.index(f"{{{field}}}") + 1], ">"]),)


def _identity_field(message: type[Message], role: Role) -> str | None:
    tokens = message.SUBJECT.split(".")
    return next((field for field in _IDENTITY_FIELDS[role] if f"{{{field}}}" in tokens), None)


def _own_commands(node_id: str) -> tuple[str, ...]:
    place = {"stream": names.NODE_COMMANDS_STREAM, "consumer": names.node_consumer(node_id)}
    return (
        _api(border.PULL.format(**place)),
        _api(border.CONSUMER_INFO.format(**place)),
        border.ACK.format(**place),
    )


def _bucket(bucket: str) -> tuple[str, ...]:
    """Read and write one bucket of the object store: no purge and no consumer, see `wire.border`."""
    stream = names.bucket_stream(bucket)
    return (
        border.CHUNK.format(bucket=bucket),
        border.META.format(bucket=bucket),
        _api(border.INFO.format(stream=stream)),
        _api(border.GET.format(stream=stream)),
    )


def _api(call: str) -> str:
    return f"{border.API_OUTSIDE}.{call}"


def service_permissions(name: Party) -> Permissions:
    """What a service of ours needs: to say what it says, to hear what is said, and JetStream as a whole.

    This guards against mistakes, not against a service that was taken over: whoever may pull may do anything to
    JetStream (see `wire.border`).
    """
    said = (entry.message.pattern() for entry in CATALOG if {name, "every_service"} & {*entry.said_by})
    asked = (
        entry.message.pattern() for entry in CATALOG if issubclass(entry.message, Query) and name in entry.heard_by
    )
    return Permissions(
        (*dict.fromkeys(said), *DEAD.subjects, f"{border.API}.>", "$JS.ACK.>", "$O.>", "sys.>"),
        (*asked, *_EVERYTHING, "$O.>", "sys.>", f"{names.inbox_prefix(name)}.>"),
        _ANSWER_SECONDS,
    )
