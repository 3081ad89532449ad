"""What the catalogue promises each role, told a second time in plain words, to hold the permissions against."""

import re

from services.gate.domain.permissions import Role
from wire.catalog import CATALOG, Entry
from wire.message import Command, Event, Message, Query, Telemetry

NODE, OTHER_NODE = "U" + "A" * 55, "U" + "B" * 55
IDENTITIES: dict[Role, str] = {"node": NODE, "partner": "acme", "operator": "ops"}
OTHERS: dict[Role, str] = {"node": OTHER_NODE, "partner": "rival", "operator": "spo"}
_NAMES_OF: dict[Role, set[str]] = {
    "node": {"node_id", "identity"},
    "partner": {"partner", "identity"},
    "operator": {"operator", "identity"},
}


def subject(message: type[Message], role: Role, identity: str) -> str:
    """A subject of the message with `identity` where this role's identities stand, and something everywhere else."""
    return re.sub(
        r"\{(\w+)\}", lambda field: identity if field[1] in _NAMES_OF[role] else f"x-{field[1]}", message.SUBJECT
    )


def is_about(message: type[Message], role: Role) -> bool:
    return bool(set(re.findall(r"\{(\w+)\}", message.SUBJECT)) & _NAMES_OF[role])


def says(entry: Entry, role: Role) -> bool:
    return role in entry.said_by


def hears(entry: Entry, role: Role) -> bool:
    """Its queries, its events; of the nouns it hears anything of, all that is about itself. Commands are pulled."""
    message = entry.message
    if issubclass(message, Command):
        return False
    if role == "operator":
        return issubclass(message, Event | Telemetry)
    if role in entry.heard_by:
        return True
    return not issubclass(message, Query) and any(
        role in other.heard_by and _start(other.message) == _start(message) and is_about(other.message, role)
        for other in CATALOG
    )


def _start(message: type[Message]) -> list[str]:
    return message.SUBJECT.split(".")[:3]


def all_about(message: type[Message], identity: str) -> str:
    """Everything of the message's noun about `identity`, or about anyone where that is empty."""
    return ".".join([*message.SUBJECT.split(".")[:2], *([identity] if identity else []), ">"])
