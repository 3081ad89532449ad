"""The embedded servers, for real: killed, restarted, fought over, orphaned; what was acknowledged is still there."""

import asyncio
import base64
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import nats
import nkeys
import pytest
import pytest_asyncio
import redis.asyncio
from nats.aio.client import Client
from nats.errors import Error as NatsError

from libs import process
from libs.local import unprivileged
from libs.local.errors import LocalError
from libs.local.nats import CONNECTED, CONNECTIONS, DISCONNECTED, KICK, AuthCallout, NkeyUser
from libs.local.servers import LocalServers, Ports

NAMES = ("nats", "postgres", "valkey")
_CURVE_PREFIX = 23 << 3  # X…


def key_pair(prefix: int = nkeys.PREFIX_BYTE_USER) -> tuple[str, str]:
    """A seed and its public key."""
    seed = nkeys.encode_seed(secrets.token_bytes(32), prefix)
    return seed.decode(), nkeys.from_seed(seed).public_key.decode()


def curve_public_key() -> str:
    raw = bytes([_CURVE_PREFIX]) + secrets.token_bytes(32)
    return base64.b32encode(raw + nkeys.crc16(bytearray(raw)).to_bytes(2, "little")).decode().rstrip("=")


SERVICE, GATE, OPERATOR, STRANGER = (key_pair() for _ in range(4))


async def connect(url: str, seed: str, **options: Any) -> Client:
    return await nats.connect(url, nkeys_seed_str=seed, allow_reconnect=False, **options)


async def python(code: str, *arguments: str) -> tuple[asyncio.subprocess.Process, str]:
    """A process that runs `code`, and the first line it says."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *arguments, stdout=pipe)
    assert child.stdout is not None
    return child, (await child.stdout.readline()).decode()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def servers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalServers]:
    users = [NkeyUser(SERVICE[1]), NkeyUser(GATE[1], account="AUTH"), NkeyUser(OPERATOR[1], account="SYS")]
    callout = AuthCallout(issuer=key_pair(nkeys.PREFIX_BYTE_ACCOUNT)[1], xkey=curve_public_key())
    directory = tmp_path_factory.mktemp("data") / "a path, with \"spaces\" and 'more'"
    async with LocalServers(directory, users=users, callout=callout, schemas=["one", "two"]) as running:
        yield running


async def test_each_role_owns_its_schema_and_sees_no_other(servers: LocalServers) -> None:
    one, two = [await asyncpg.connect(dsn) for dsn in servers.addresses.schemas.values()]
    await one.execute("CREATE TABLE IF NOT EXISTS thing (id int)")
    assert await one.fetchval("SELECT current_schema()") == "one"
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await two.execute("SELECT * FROM one.thing")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await two.execute("CREATE TABLE public.thing (id int)")
    durable = [await one.fetchval(f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")]
    assert durable == ["on", "on", "on"]
    await one.close()
    await two.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(servers.addresses.schemas["one"], password="wrong")


async def test_the_unix_socket_answers(servers: LocalServers) -> None:
    postgres: Any = servers._servers["postgres"]
    connection = await asyncpg.connect(postgres.dsn("bivouac", "two", socket=True))
    assert await connection.fetchval("SELECT inet_client_addr()") is None
    await connection.close()


async def test_a_committed_row_outlives_kill_9(servers: LocalServers) -> None:
    before = await asyncpg.connect(servers.addresses.schemas["one"])
    await before.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (7)")
    servers.kill("postgres")
    await servers.restart("postgres")
    after = await asyncpg.connect(servers.addresses.schemas["one"])
    assert await after.fetchval("SELECT id FROM kept") == 7
    await after.close()
    before.terminate()


async def test_postgres_returns_while_a_session_of_the_killed_one_still_computes(servers: LocalServers) -> None:
    busy = await asyncpg.connect(servers.addresses.schemas["one"])
    query = asyncio.ensure_future(busy.fetchval("SELECT count(*) FROM generate_series(1, 1000000000)"))
    await asyncio.sleep(0.1)
    server = servers.pid("postgres")
    assert server is not None
    os.kill(server, signal.SIGKILL)  # the server alone: the session notices nothing before its statement ends
    await servers.restart("postgres")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await query


async def test_postgres_returns_though_its_pid_now_belongs_to_another(servers: LocalServers) -> None:
    servers.kill("postgres")
    mark = servers.directory / "postgres" / "data" / "postmaster.pid"
    lines = mark.read_text().splitlines()
    mark.write_text("\n".join([str(os.getppid()), *lines[1:]]))
    await servers.restart("postgres")
    assert servers.pid("postgres") is not None


async def test_an_acknowledged_message_outlives_kill_9(servers: LocalServers) -> None:
    before = await connect(servers.addresses.nats, SERVICE[0])
    await before.jetstream().add_stream(name="kept", subjects=["kept.>"])
    ack = await before.jetstream().publish("kept.one", b"seven")
    servers.kill("nats")
    await servers.restart("nats")
    after = await connect(servers.addresses.nats, SERVICE[0])
    assert (await after.jetstream().get_msg("kept", ack.seq)).data == b"seven"
    await after.close()


async def test_valkey_asks_for_its_password_and_returns_empty(servers: LocalServers) -> None:
    async with redis.asyncio.from_url(servers.addresses.valkey) as before:
        await before.set("a", "b")
    servers.kill("valkey")
    await servers.restart("valkey")
    async with redis.asyncio.from_url(servers.addresses.valkey) as after:
        assert await after.get("a") is None
    stranger = redis.asyncio.from_url(servers.addresses.valkey.replace(":", ":wrong", 2))
    with pytest.raises(redis.exceptions.RedisError):
        await stranger.ping()
    await stranger.aclose()


async def test_static_users_of_every_account_pass_the_callout_by(servers: LocalServers) -> None:
    for seed, _ in (SERVICE, GATE, OPERATOR):
        client = await connect(servers.addresses.nats, seed)
        await client.flush()
        await client.close()


async def test_a_stranger_is_referred_to_the_callout_and_refused_while_it_is_silent(servers: LocalServers) -> None:
    gate = await connect(servers.addresses.nats, GATE[0])
    asked = await gate.subscribe("$SYS.REQ.USER.AUTH")
    await gate.flush()
    begun = time.monotonic()
    with pytest.raises(NatsError, match="Authorization Violation"):
        await connect(servers.addresses.nats, STRANGER[0])
    assert time.monotonic() - begun < 1.5
    request = await asked.next_msg()
    assert "Nats-Server-Xkey" in (request.headers or {}), "the request is sealed"
    await gate.close()


async def test_a_service_hears_who_comes_and_goes_lists_them_and_kicks(servers: LocalServers) -> None:
    service = await connect(servers.addresses.nats, SERVICE[0])
    comings, goings = await service.subscribe(CONNECTED), await service.subscribe(DISCONNECTED)
    await service.flush()
    visitor = await connect(servers.addresses.nats, SERVICE[0], name="visitor")
    came = json.loads((await comings.next_msg(2)).data)
    assert (came["client"]["name"], came["client"]["user"]) == ("visitor", SERVICE[1])
    listed = json.loads((await service.request(CONNECTIONS, b'{"auth": true}')).data)["data"]["connections"]
    assert {c["name"] for c in listed if "name" in c} == {"visitor"}
    assert {c["account"] for c in listed} == {"NET"}
    kick = KICK.format(server_id=came["server"]["id"])
    await service.request(kick, json.dumps({"cid": came["client"]["id"]}).encode())
    gone = json.loads((await goings.next_msg(2)).data)
    assert (gone["client"]["id"], gone["reason"]) == (came["client"]["id"], "Kicked")
    await service.close()
    await visitor.close()


_CLIENT = """
import asyncio, nats, sys
async def main():
    await nats.connect(sys.argv[1], nkeys_seed_str=sys.argv[2])
    print("up", flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_frozen_client_is_noticed_within_four_seconds(servers: LocalServers) -> None:
    service = await connect(servers.addresses.nats, SERVICE[0])
    goings = await service.subscribe(DISCONNECTED)
    await service.flush()
    client, _ = await python(_CLIENT, servers.addresses.nats, SERVICE[0])
    client.send_signal(signal.SIGSTOP)
    assert json.loads((await goings.next_msg(4)).data)["reason"] == "Stale Connection"
    client.kill()
    await client.wait()
    await service.close()


async def test_a_second_start_in_the_directory_is_refused_in_one_sentence(servers: LocalServers) -> None:
    with pytest.raises(LocalError, match=f"in use by process {os.getpid()}: stop that first, or choose another"):
        await LocalServers(servers.directory, users=[NkeyUser(SERVICE[1])]).start()


async def test_a_taken_port_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        local = LocalServers(tmp_path, users=[NkeyUser(SERVICE[1])], ports=Ports(nats=port))
        with pytest.raises(LocalError, match=f"Port {port} for nats is taken: stop the program"):
            await local.start()
    assert all(local.pid(name) is None for name in NAMES)
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_full_disk_and_an_unusable_directory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match=r"Cannot work in .*: mend its permissions, or choose another directory"):
        await LocalServers(tmp_path / "file" / "data", users=[NkeyUser(SERVICE[1])]).start()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100 * 1024**2))
    with pytest.raises(LocalError, match=r"Only 100 MB are free where .*: make room for 500 MB, or choose"):
        await LocalServers(tmp_path, users=[NkeyUser(SERVICE[1])]).start()


_STARTER = """
import asyncio, pathlib, sys
from libs.local.servers import LocalServers, NkeyUser
async def main():
    servers = LocalServers(pathlib.Path(sys.argv[1]), users=[NkeyUser(sys.argv[2])], schemas=["one"])
    await servers.start()
    print(*(servers.pid(name) for name in ("nats", "postgres", "valkey")), flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_a_killed_starter_leaves_no_process_and_the_next_start_works(tmp_path: Path) -> None:
    starter, said = await python(_STARTER, str(tmp_path), SERVICE[1])
    pids = [int(pid) for pid in said.split()]
    assert len(pids) == 3
    starter.kill()
    await starter.wait()
    async with asyncio.timeout(10):
        while any(_lives(pid) for pid in pids):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with LocalServers(tmp_path, users=[NkeyUser(SERVICE[1])], schemas=["one"]) as again:
        assert all(again.running(name) for name in NAMES)
        await (await asyncpg.connect(again.addresses.schemas["one"])).close()


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def test_leftovers_are_ended_and_a_recycled_pid_is_spared(tmp_path: Path) -> None:
    registry = process.Registry(tmp_path)
    left, spared = (process.start(["sleep", "60"], log=tmp_path / "log") for _ in range(2))
    (tmp_path / "log").unlink()
    registry.add(left)
    registry.add(spared)
    mark = tmp_path / f"{spared.pid}.json"
    mark.write_text(mark.read_text().replace(spared.record.started, "another boot/1"))
    ended = await process.Registry(tmp_path).end_leftovers()
    assert [record.pid for record in ended] == [left.pid]
    assert (left.running, spared.running) == (False, True)
    left.kill()
    await spared.stop()
    assert not spared.running


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
async def test_root_without_namespaces_runs_postgres_as_an_ordinary_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unprivileged, "_works", lambda _: False)
    async with LocalServers(tmp_path, users=[NkeyUser(SERVICE[1])], schemas=["one"]) as servers:
        assert Path(f"/proc/{servers.pid('postgres')}").stat().st_uid != 0
    monkeypatch.undo()
    async with LocalServers(tmp_path, users=[NkeyUser(SERVICE[1])], schemas=["one"]) as servers:
        assert Path(f"/proc/{servers.pid('postgres')}").stat().st_uid == 0, "and back, on the same data"
