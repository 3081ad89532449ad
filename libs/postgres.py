"""PostgreSQL: a pool for readers, one lasting connection for a writer, migrations applied once each in order."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg import exceptions as sql

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:  # at run time these classes take no parameters
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

_CONNECT_SECONDS = 5.0
_COMMAND_SECONDS = 30.0
_STATEMENTS = 512
_PAUSE_SECONDS = (0.02, 0.5)
_MIGRATION = re.compile(r"\d{4}_\w+\.sql")
_MIGRATION_LOCK = 0x6D696772617465  # "migrate"; locks are per database, and the schema is the second half of the key

log = logging.getLogger("postgres")


class Away(Exception):
    """The database cannot be reached, or cannot write; what was in hand may be done again later."""


# Said by the server itself: it stops, starts, has no room, or is a standby for now. No handler can cause these.
_SERVER_IS_AWAY = (
    sql.PostgresConnectionError,
    sql.OperatorInterventionError,
    sql.InsufficientResourcesError,
    sql.PostgresSystemError,
    sql.ReadOnlySQLTransactionError,
)

AWAY = (Away, OSError, TimeoutError, asyncpg.InterfaceError, *_SERVER_IS_AWAY)
"""What a reader on a pooled connection may see while the database is away."""


async def connect(url: str, name: str, **server_settings: str) -> Connection:
    """One connection; raises Away."""
    try:
        return await asyncpg.connect(url, **_options(name, server_settings))
    except (OSError, TimeoutError, *_SERVER_IS_AWAY) as error:
        raise Away(str(error) or type(error).__name__) from error


async def pool(url: str, name: str, size: int = 4) -> Pool:
    """Connections for reading; opened when needed, made again when lost."""
    return await asyncpg.create_pool(url, min_size=0, max_size=size, reset=_keep, **_options(name, {}))


async def _keep(_connection: Any) -> None:
    """Nothing to reset: sessions here change no settings, and a reset costs a round trip."""


def _options(name: str, server_settings: dict[str, str]) -> dict[str, Any]:
    return {
        "timeout": _CONNECT_SECONDS,
        "command_timeout": _COMMAND_SECONDS,
        "statement_cache_size": _STATEMENTS,
        "max_cached_statement_lifetime": 0,
        "server_settings": {
            "application_name": name,
            # Plans are cached; compiling them to machine code would cost more than it saves on short statements.
            "jit": "off",
            # Sooner than our own patience: so a slow statement fails by name, and a timeout means a silent server.
            "statement_timeout": "20s",
            **server_settings,
        },
    }


class Writer:
    """One connection for all transactions of a process, one at a time, made anew when it is lost.

    Transactions that follow each other on one connection cannot deadlock among themselves and share its statements.
    """

    def __init__(self, url: str, name: str, **server_settings: str) -> None:
        self._url, self._name, self._server_settings = url, name, server_settings
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Connection]:
        """The connection, for as long as the block runs.

        Raises Away where the connection was lost in the block, whatever the block raised. A commit that was under way
        may then have happened or not.
        """
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await connect(self._url, self._name, **self._server_settings)
            connection = self._connection
            try:
                yield connection
            except sql.QueryCanceledError:
                raise
            except _SERVER_IS_AWAY as error:
                raise Away(str(error)) from error
            except TimeoutError as error:
                connection.terminate()
                raise Away("the server does not answer") from error
            except Exception as error:
                if connection.is_closed():
                    raise Away(str(error)) from error
                raise

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with self.turn() as connection, connection.transaction():
            yield connection

    async def close(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            try:
                await self._connection.close(timeout=2.0)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self._connection.terminate()


class Patience:
    """Growing pauses while something is away: 20 ms at first, half a second at most."""

    def __init__(self, what: str) -> None:
        self._what, self._pause = what, _PAUSE_SECONDS[0]

    async def pause(self, error: BaseException) -> None:
        if self._pause == _PAUSE_SECONDS[0]:
            log.warning("%s waits: %s", self._what, error)
        await asyncio.sleep(self._pause)
        self._pause = min(2 * self._pause, _PAUSE_SECONDS[1])


async def migrate(url: str, packages: Sequence[str]) -> None:
    """Apply each package's migrations/NNNN_*.sql once, in order, each in a transaction; waits while PostgreSQL is away.

    Starts at the same time are safe. A file that changed after it was applied is an error: migrations only grow.
    """
    patience = Patience("migrate")
    while True:
        try:
            connection = await connect(url, "migrate")
            break
        except Away as error:
            await patience.pause(error)
    try:
        await connection.execute("SELECT pg_advisory_lock($1 # hashtext(current_schema())::bigint)", _MIGRATION_LOCK)
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS migrations (
                package text, name text, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (package, name)
            )
            """
        )
        for package in packages:
            await _apply(connection, package)
    finally:
        await connection.close()


async def _apply(connection: Connection, package: str) -> None:
    rows = await connection.fetch("SELECT name, checksum FROM migrations WHERE package = $1", package)
    applied = {row["name"]: row["checksum"] for row in rows}
    for name, text in _files(package):
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if name not in applied:
            async with connection.transaction():
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO migrations (package, name, checksum) VALUES ($1, $2, $3)", package, name, checksum
                )
        elif applied[name] != checksum:
            raise RuntimeError(f"{package}/migrations/{name} was changed after it had been applied: add a new file.")


def _files(package: str) -> list[tuple[str, str]]:
    directory = importlib.resources.files(package) / "migrations"
    if not directory.is_dir():
        return []
    names = sorted(item.name for item in directory.iterdir() if item.name.endswith(".sql"))
    for name in names:
        assert _MIGRATION.fullmatch(name), f"{package}/migrations/{name}: a migration is called NNNN_words.sql"
    return [(name, (directory / name).read_text(encoding="utf-8")) for name in names]
