"""What can be set on the gate, besides the bus."""

from typing import Annotated

import msgspec

from libs import nats_keys
from libs.nats_keys import Kind, NotAKey
from libs.settings import BusSettings, SettingsError
from wire.values import PartnerId


class Settings(BusSettings, frozen=True, kw_only=True):
    """Read from BIVOUAC_CALLOUT_SEED_FILE and so on; the files hold one seed each."""

    callout_seed_file: str
    """Of the user in the server's callout account that answers its questions."""

    issuer_seed_file: str
    """Of the account key that signs the answers; the server's configuration names its public key as issuer."""

    curve_seed_file: str
    """Of the x25519 key that questions are sealed for; the server's configuration names its public key as xkey."""

    operators: str
    """`name=public key` of each operator, with spaces between them."""

    jwt_seconds: Annotated[int, msgspec.Meta(ge=1, le=30 * 86_400)] = 86_400
    """How long a connection may last. The server ends it then, and nats-py gives up a connection that ended so."""

    connections_max: Annotated[int, msgspec.Meta(ge=1)] = 64
    """At most so many connections of one partner or operator at once; a node has one, the newest."""

    inside_account: str = "NET"
    outside_account: str = "OUT"
    """The server's accounts: operators and services live inside, nodes and partners outside."""

    trust_any_server: bool = False
    """Off: believe questions of the server we are connected to alone. A cluster, whose servers take turns at the queue
    group and have new keys at every start, needs it on; who may ask is then guarded by the callout account alone."""


def operators_of(text: str) -> dict[str, str]:
    """Name by public key; raises SettingsError."""
    found: dict[str, str] = {}
    for word in text.split():
        name, _, key = word.partition("=")
        try:
            msgspec.convert(name, PartnerId)
            nats_keys.decode(key, Kind.USER)
        except (msgspec.ValidationError, NotAKey):
            raise SettingsError(f"BIVOUAC_OPERATORS: `{word}` is not `name=public key`, as in ops=U….") from None
        found[key] = name
    return found


def seed_in(path: str, kind: Kind) -> str:
    """The seed in a file; raises SettingsError."""
    try:
        with open(path, encoding="ascii") as file:
            seed = file.read().strip()
        nats_keys.public_of(seed, kind)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} should hold the seed of a key of kind {kind.name}: {error}") from None
    return seed
