"""NATS, PostgreSQL and Valkey on this machine, as children of this process: started together, restarted one by one."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from libs.local.errors import LocalError
from libs.local.nats import AuthCallout, NatsServer, NkeyUser
from libs.local.passwords import Passwords
from libs.local.postgres import PostgresServer
from libs.local.server import LocalServer
from libs.local.valkey import ValkeyServer
from libs.process import DirectoryLock, InUse, Registry

DEFAULT_DIRECTORY = Path("~/.bivouac")
_FREE_BYTES_MIN = 500 * 1024 * 1024


class Ports(msgspec.Struct, frozen=True):
    """0 picks a free one."""

    nats: int = 0
    postgres: int = 0
    valkey: int = 0


class Addresses(msgspec.Struct, frozen=True):
    """Where everything is and how to get in; hold it as you would hold the passwords that it contains."""

    directory: Path
    nats: str  # nats://127.0.0.1:port; users bring their nkeys
    valkey: str  # redis://:password@127.0.0.1:port/0
    schemas: dict[str, str]  # schema = role -> postgresql://role:password@127.0.0.1:port/database
    postgres_admin: str  # the superuser, in the same database


class LocalServers:
    """`async with LocalServers(directory, users=…) as servers: servers.addresses.nats`; start it in the main thread."""

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        *,
        users: Sequence[NkeyUser],
        callout: AuthCallout | None = None,
        database: str = "bivouac",
        schemas: Sequence[str] = (),
        ports: Ports | None = None,
    ) -> None:
        self.directory = directory.expanduser().absolute()
        self._users, self._callout = users, callout
        self._database, self._schemas = database, schemas
        self._ports = ports or Ports()
        self._lock: DirectoryLock | None = None
        self._servers: dict[str, LocalServer] = {}
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        assert self._addresses is not None, "not started"
        return self._addresses

    async def start(self) -> Addresses:
        """All three at once; raises LocalError, and then nothing runs."""
        self._lock = _claim(self.directory)
        try:
            registry = Registry(self.directory / "run")
            await registry.end_leftovers()
            return await self._start(registry, Passwords(self.directory / "passwords.json"))
        except BaseException as error:
            await self.stop()
            if isinstance(error, OSError) and error.filename is not None:
                raise cannot_use(self.directory, error) from error
            raise

    async def _start(self, registry: Registry, passwords: Passwords) -> Addresses:
        at, ports = self.directory, self._ports
        nats = NatsServer(at / "nats", registry, self._users, self._callout, ports.nats)
        postgres = PostgresServer(at / "postgres", registry, passwords, ports.postgres)
        valkey = ValkeyServer(at / "valkey", registry, passwords, ports.valkey)
        self._servers = {server.name: server for server in (nats, postgres, valkey)}
        # Each to its end, so that none is left half started when another fails.
        results = await asyncio.gather(nats.start(), postgres.start(), valkey.start(), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        await postgres.ensure(self._database, self._schemas)
        self._addresses = Addresses(
            directory=at,
            nats=nats.url,
            valkey=valkey.url,
            schemas={name: postgres.dsn(self._database, name) for name in self._schemas},
            postgres_admin=postgres.dsn(self._database),
        )
        return self._addresses

    async def stop(self) -> None:
        """Ends all that runs and lets go of the directory; may be called at any time, and twice."""
        try:
            await asyncio.gather(*(server.stop() for server in self._servers.values()))
        finally:
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    async def restart(self, name: str) -> None:
        """Stops `nats`, `postgres` or `valkey` if it runs, and starts it on the same port with the same data."""
        await self._servers[name].stop()
        await self._servers[name].start()

    def kill(self, name: str) -> None:
        """As a crash would: SIGKILL, no goodbye."""
        self._servers[name].kill()

    def running(self, name: str) -> bool:
        return self._servers[name].running

    def pid(self, name: str) -> int | None:
        return self._servers[name].pid

    def log(self, name: str) -> Path:
        return self._servers[name].log

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def _claim(directory: Path) -> DirectoryLock:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory)
    except InUse as error:
        raise LocalError(str(error)) from None
    except OSError as error:
        raise cannot_use(directory, error) from error
    free = shutil.disk_usage(directory).free
    if free < _FREE_BYTES_MIN:
        lock.release()
        raise LocalError(
            f"Only {free // 1024**2} MB are free where {directory} lies: "
            f"make room for {_FREE_BYTES_MIN // 1024**2} MB, or choose a directory on another disk."
        )
    return lock


def cannot_use(directory: Path, error: OSError) -> LocalError:
    reason = (error.strerror or str(error)).lower()
    return LocalError(f"Cannot work in {directory} ({reason}): mend its permissions, or choose another directory.")
