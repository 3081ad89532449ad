"""What the network's containers read, written once: keys, passwords, configurations, and each service's settings.

Running it again changes only what has to change, and says what that was. The same keys, statements and configurations
serve the local network.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from libs.local import nats, schemas, valkey
from libs.local.errors import LocalError
from libs.local.passwords import Passwords, write_private
from services.network import OPERATOR, PARTNERS, SCHEMAS, Keys, Network, Profile

DATABASE = "bivouac"
MONITOR = "127.0.0.1:8222"
NETWORK, STORE, PROFILES = "network", "nats-store", "profiles"
SERVERS = ("nats", "postgres", "valkey")
_CLOSED, _OPEN = 0o700, 0o755
_PRIVATE, _READ_BY_OTHERS = 0o600, 0o444

_ANY = "0.0.0.0"


def add_to(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "provision", help="write what the network needs to run in containers; harmless when it is there already"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="a directory with a place for each")
    command.add_argument("--places", action="store_true", help="make the directories and nothing else")
    command.add_argument("--nats-url", default="nats://nats:4222", metavar="URL", help="(%(default)s)")
    for server, port in (("postgres", 5432), ("valkey", 6379)):
        default = f"{server}:{port}"
        command.add_argument(f"--{server}", type=address, default=default, metavar="HOST:PORT", help="(%(default)s)")
    command.add_argument(
        "--nats-directory", type=Path, default=Path("/data"), metavar="DIR", help="where NATS keeps streams (/data)"
    )
    command.add_argument(
        "--store-gb", type=int, choices=range(1, 100_001), metavar="N", help="for streams (80 %% of the disk at first)"
    )


def address(word: str) -> str:
    """`host:port`; raises ValueError."""
    host, _, port = word.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(word)
    return word


def places() -> dict[str, int]:
    """Each directory, with its mode; each is a volume of its own, so that nobody sees what is another's."""
    closed = (NETWORK, STORE, PROFILES, *(f"services/{service}" for service in SCHEMAS))
    return {**dict.fromkeys(closed, _CLOSED), **dict.fromkeys(SERVERS, _OPEN)}


def run(options: argparse.Namespace) -> None:
    """Raises LocalError."""
    try:
        options.out.mkdir(mode=_CLOSED, parents=True, exist_ok=True)
        for place, mode in places().items():
            if not (options.out / place).is_dir():
                (options.out / place).mkdir(parents=True)
                (options.out / place).chmod(mode)
        if options.places:
            return
        changed = Provision(options).write()
    except OSError as error:
        raise LocalError(
            f"Cannot write in {error.filename or options.out} ({(error.strerror or str(error)).lower()}): "
            "mend its permissions or make room, or choose another directory with --out."
        ) from error
    for name in changed:
        print(f"written: {name}")
    print("provisioned" if changed else "nothing has changed", flush=True)


class Provision:
    """One network in one directory. Files for servers that run as other users may be read by anybody who gets to
    them; what keeps others away is the volume."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._out: Path = options.out
        self._nats_url: str = options.nats_url
        self._postgres: str = options.postgres
        self._valkey: str = options.valkey
        self._nats_directory: Path = options.nats_directory
        self._store_gb: int | None = options.store_gb
        self._network = Network(Keys(self._out / NETWORK / "keys"))
        self._passwords = Passwords(self._out / NETWORK / "passwords.json")
        self._changed: list[str] = []

    def write(self) -> list[str]:
        """All files; the names of those that were not there, or were others."""
        self._servers()
        databases = {
            name: f"postgresql://{name}:{self._passwords.of(f'postgres/{name}')}@{self._postgres}/{DATABASE}"
            for name in SCHEMAS
        }
        valkey_url = f"redis://:{self._passwords.of('valkey')}@{self._valkey}/0"
        for service in SCHEMAS:
            settings = self._network.environment(service, self._nats_url, valkey_url, databases)
            for name, content in contents(settings).items():
                self._keep(f"services/{service}/{name}", content)
        self._profiles()
        return self._changed

    def _servers(self) -> None:
        configuration = nats.configuration(
            urlsplit(self._nats_url).port or 4222,
            self._nats_directory,
            self._store_bytes(),
            self._network.users(),
            self._network.callout(),
            host=_ANY,
            name="bivouac",
            monitor=MONITOR,
        )
        text = msgspec.json.format(msgspec.json.encode(configuration), indent=2).decode()
        self._keep("nats/nats.conf", text, _READ_BY_OTHERS)
        self._keep("postgres/password", self._passwords.of(f"postgres/{schemas.ADMIN}"), _READ_BY_OTHERS)
        roles = {name: self._passwords.of(f"postgres/{name}") for name in SCHEMAS}
        self._keep("postgres/schemas.sql", "\n".join(schemas.statements(DATABASE, roles)), _READ_BY_OTHERS)
        password = self._passwords.of("valkey")
        port = int(self._valkey.rpartition(":")[2])
        self._keep("valkey/valkey.conf", valkey.configuration(_ANY, port, password), _READ_BY_OTHERS)
        self._keep("valkey/password", password, _READ_BY_OTHERS)

    def _profiles(self) -> None:
        """For the `bivouac` command, with the seed beside each and the public key that an operator registers."""
        for identity, role in {OPERATOR: "operator", **dict.fromkeys(PARTNERS, "partner")}.items():
            profile = Profile(url=self._nats_url, identity=identity, role=role, key_file=f"{identity}.seed")
            self._keep(f"{PROFILES}/{identity}.json", msgspec.json.encode(profile).decode())
            self._keep(f"{PROFILES}/{identity}.seed", self._network.keys.file(identity).read_text())
            self._keep(f"{PROFILES}/{identity}.public", self._network.keys.public(identity))

    def _store_bytes(self) -> int:
        """Chosen once: what is free shrinks as the streams grow, and their limits must not."""
        chosen = self._out / NETWORK / "store_gb"
        if self._store_gb is None and chosen.exists():
            return int(chosen.read_text()) << 30
        gigabytes = self._store_gb or max(1, shutil.disk_usage(self._out / STORE).free * 4 // 5 >> 30)
        self._keep(f"{NETWORK}/store_gb", str(gigabytes))
        return gigabytes << 30

    def _keep(self, name: str, content: str, mode: int = _PRIVATE) -> None:
        path = self._out / name
        if not path.exists() or path.read_text() != content:
            write_private(path, content.encode())
            self._changed.append(name)
        path.chmod(mode)


def contents(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a service as files: BIVOUAC_NATS_URL is `nats_url`, whatever BIVOUAC_NATS_SEED_FILE names is
    `nats_seed`."""
    found = {}
    for variable, value in settings.items():
        name = variable.removeprefix("BIVOUAC_").lower()
        if name.endswith("_file"):
            found[name.removesuffix("_file")] = Path(value).read_text()
        else:
            found[name] = value
    return found
