"""Whether a key may come in, and as whom: bans first, then names that were given, then the open door for nodes."""

import re
from collections.abc import Mapping

import msgspec

from services.gate.domain.permissions import ROLES, Role

_NODE_KEY = re.compile(r"U[A-Z2-7]{55}")
REASON_LENGTH_MAX = 80


class Admitted(msgspec.Struct, frozen=True):
    """The key speaks as `identity`."""

    role: Role
    identity: str


class Denied(msgspec.Struct, frozen=True):
    """The key stays out; `reason` is short and holds nothing that the client wrote."""

    reason: str


class Known(msgspec.Struct, frozen=True):
    """Who has a name, and who is shut out, each by public key."""

    operators: Mapping[str, str]
    partners: Mapping[str, str]
    bans: Mapping[str, str]

    def identity_of(self, key: str) -> str:
        """What connections of `key` are known by."""
        return self.operators.get(key) or self.partners.get(key) or key


def admit(key: str, wanted: str, known: Known) -> Admitted | Denied:
    """Who `key` is. `wanted` is the role that the client named, or nothing.

    A client that wants to be a partner and is not registered is told so, instead of coming in as a node.
    """
    if key in known.bans:
        return Denied(f"banned: {known.bans[key]}"[:REASON_LENGTH_MAX])
    if wanted and wanted not in ROLES:
        return Denied("no such role")
    if key in known.operators:
        admitted = Admitted("operator", known.operators[key])
    elif key in known.partners:
        admitted = Admitted("partner", known.partners[key])
    elif _NODE_KEY.fullmatch(key):
        admitted = Admitted("node", key)
    else:
        return Denied("not a user's key")
    if wanted and wanted != admitted.role:
        return Denied(f"not registered as {wanted}")
    return admitted
