"""What a node keeps on disk while the bus is away."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.node_agent.spool import Spool
from wire.node import NodeLeaving

NODE = "U" + "A" * 55


def leaving(id_: str) -> NodeLeaving:
    return NodeLeaving(id=id_, at=1, node_id=NODE, boot_id="boot_1")


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool.sqlite")


def test_messages_leave_in_order_and_once(spool: Spool) -> None:
    for id_ in ("a", "b", "a", "c"):
        spool.put(leaving(id_))
    bodies = [msgspec.json.decode(body)["id"] for _, _, body, _ in spool.waiting()]
    assert bodies == ["a", "b", "c"]
    first = spool.waiting()[0]
    spool.published(first[0])
    assert [row[3] for row in spool.waiting()] != [first[3]]
    assert len(spool.waiting()) == 2


def test_a_command_is_new_once(spool: Spool) -> None:
    assert spool.first_time("x")
    assert not spool.first_time("x")


def test_memory_of_commands_is_bounded(spool: Spool) -> None:
    for number in range(10_500):
        spool._database.execute("INSERT INTO seen (id) VALUES (?)", (str(number),))
    assert spool.first_time("new")
    (count,) = spool._database.execute("SELECT count(*) FROM seen").fetchone()
    assert count <= 10_000
    assert not spool.first_time("new")


def test_what_was_put_survives_kill_9(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.node_agent.test_spool import leaving\n"
        "from services.node_agent.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "spool.put(leaving('kept')); assert spool.first_time('seen')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "spool.sqlite")], cwd=os.getcwd(), check=False)
    assert run.returncode == -signal.SIGKILL
    after = Spool(tmp_path / "spool.sqlite")
    assert len(after.waiting()) == 1
    assert not after.first_time("seen")
