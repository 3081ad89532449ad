"""One network as data: its keys, its users, and the environment of each of its services.

The same plan serves the local network and the containers; only the addresses differ.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from libs import nats_keys, nkey
from libs.local.nats import NETWORK, AuthCallout, NkeyUser
from libs.local.outsiders import OUTSIDE, Border
from libs.local.passwords import write_private
from libs.nats_keys import Kind
from wire import border
from wire.catalog import SERVICES

OPERATOR = "operator"
PARTNERS = ("acme",)
SCHEMAS: tuple[str, ...] = tuple(SERVICES)
_CALLOUT_USER = "callout"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What a person's command line needs to speak as someone; `key_file` is relative to the profile."""

    url: str
    identity: str
    role: str
    key_file: str


class Keys:
    """The keys of one network in one directory, each made when it is first asked for and then kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def file(self, name: str) -> Path:
        """The seed file of a user: a service, an operator, a partner."""
        path = self.directory / f"{name}.seed"
        nkey.make(path)
        return path

    def public(self, name: str) -> str:
        return nkey.load(self.file(name)).public_key

    def special(self, name: str, kind: Kind) -> tuple[Path, str]:
        """The seed file and the public key of a key that is no user's."""
        path = self.directory / f"{name}.seed"
        if not path.exists():
            write_private(path, nats_keys.new_seed(kind, secrets.token_bytes(32)).encode())
        return path, nats_keys.public_of(path.read_text().strip(), kind)


class Network:
    """Everything that follows from the keys."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._issuer, self._issuer_public = keys.special("issuer", Kind.ACCOUNT)
        self._curve, self._curve_public = keys.special("curve", Kind.CURVE)

    def users(self) -> list[NkeyUser]:
        """Who the server knows by itself: the services. Everybody else is the gate's to judge."""
        services = [NkeyUser(self.keys.public(name)) for name in SERVICES]
        return [*services, NkeyUser(self.keys.public(_CALLOUT_USER), account="AUTH")]

    def callout(self) -> AuthCallout:
        wall = Border(border.inside(OUTSIDE), border.outside(NETWORK))
        return AuthCallout(issuer=self._issuer_public, xkey=self._curve_public, border=wall)

    def environment(self, service: str, nats_url: str, valkey_url: str, databases: Mapping[str, str]) -> dict[str, str]:
        """The settings of one service, as its environment."""
        settings = {
            "BIVOUAC_NATS_URL": nats_url,
            "BIVOUAC_NATS_SEED_FILE": str(self.keys.file(service)),
            "BIVOUAC_DATABASE_URL": databases[service],
            "BIVOUAC_VALKEY_URL": valkey_url,
        }
        if service == "gate":
            settings |= {
                "BIVOUAC_CALLOUT_SEED_FILE": str(self.keys.file(_CALLOUT_USER)),
                "BIVOUAC_ISSUER_SEED_FILE": str(self._issuer),
                "BIVOUAC_CURVE_SEED_FILE": str(self._curve),
                "BIVOUAC_OPERATORS": f"{OPERATOR}={self.keys.public(OPERATOR)}",
            }
        return settings

    def write_profiles(self, directory: Path, nats_url: str, partners: Sequence[str] = PARTNERS) -> None:
        """A profile each for the operator and the partners, for the `bivouac` command."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        roles = {OPERATOR: "operator", **dict.fromkeys(partners, "partner")}
        for identity, role in roles.items():
            profile = Profile(url=nats_url, identity=identity, role=role, key_file=str(self.keys.file(identity)))
            write_private(directory / f"{identity}.json", msgspec.json.encode(profile))
