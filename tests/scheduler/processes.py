"""Node processes that tests kill, freeze and ask to leave."""

import asyncio
import signal
import sys
from pathlib import Path

from libs import nkey

ROOT = Path(__file__).parent.parent.parent


class NodeProcess:
    """A node that can be done harm to."""

    def __init__(self, url: str, seed_file: Path) -> None:
        self.node_id = nkey.load(seed_file).public_key
        self._url, self._seed_file = url, seed_file
        self._process: asyncio.subprocess.Process | None = None
        self._boots = 0

    async def start(self, beat: float = 5.0, leases: str = "") -> None:
        self._boots += 1
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.scheduler.node_process", self._url, str(self._seed_file)),
            *(f"boot_{self._boots}", str(beat), leases),
            cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert await self._process.stdout.readline() == b"joined\n"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
