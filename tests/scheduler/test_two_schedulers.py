"""Two schedulers alive on one database: no node is ever leased twice at a time; without the safeguards it would be."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import msgspec
import pytest

from libs import postgres
from services.scheduler.booking_rows import PlanConflict
from services.scheduler.domain import cluster, placement
from services.scheduler.domain.booking import Limits
from services.scheduler.store import Rows
from tests.scheduler import builders
from tests.scheduler.driver import Driver, open_driver

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 60
# A lease that was granted while an earlier lease of its node was live: seen from the order of writing alone.
WATCH = """
    CREATE TABLE doubles (node_id text);
    CREATE FUNCTION note_doubles() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO doubles SELECT node_id FROM leases WHERE state <> 'ended' GROUP BY node_id HAVING count(*) > 1;
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER note_doubles AFTER INSERT ON leases FOR EACH STATEMENT EXECUTE FUNCTION note_doubles();
"""
UNGUARD = """
    DROP INDEX leases_one_a_node; ALTER TABLE leases DROP CONSTRAINT leases_node_id_fence_key;
    ALTER TABLE leases DROP CONSTRAINT leases_pkey;
"""


async def contend(url: str, mode: str) -> tuple[list[dict[str, int]], int]:
    """Runs two contenders; returns what each says, and how often a node had two live leases."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.scheduler.contender", url, name, str(ROUNDS), mode,
            cwd=ROOT, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}, stdout=asyncio.subprocess.PIPE,
        )
        for name in ("left", "right")
    ]  # fmt: skip
    outputs = [await process.communicate() for process in processes]
    connection = await postgres.connect(url, "judge")
    doubles = await connection.fetchval("SELECT count(*) FROM doubles")
    await connection.close()
    return [msgspec.json.decode(output, type=dict[str, int]) for output, _ in outputs], doubles


@pytest.fixture
async def contested(database: Callable[[str], Awaitable[str]]) -> str:
    url = await database("scheduler")
    driver = await open_driver(url)
    await driver.join_nodes(1, 2, 3)
    await driver.connection.execute(WATCH)
    await driver.connection.close()
    return url


async def test_two_schedulers_never_lease_a_node_twice(contested: str) -> None:
    counts, doubles = await contend(contested, "locked")
    assert doubles == 0
    assert all(count["held"] > 0 and count["void"] == 0 for count in counts)


async def test_fence_and_schema_guard_the_nodes_even_without_the_lock(contested: str) -> None:
    counts, doubles = await contend(contested, "unlocked")
    assert doubles == 0
    assert sum(count["void"] for count in counts) > 0, "nothing was contended: the test shows nothing"


async def test_without_safeguards_nodes_are_leased_twice(contested: str) -> None:
    connection = await postgres.connect(contested, "saboteur")
    await connection.execute(UNGUARD)
    await connection.close()
    _, doubles = await contend(contested, "unguarded")
    assert doubles > 0


async def test_a_plan_from_an_old_snapshot_is_void(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    first, second = builders.order("bkg_1"), builders.order("bkg_2")
    await driver.feed(first, second)
    rows = Rows(driver.connection, driver.now, "stale")
    booking, pool = await driver.booking("bkg_2"), await rows.pool()
    await driver.feed(builders.quoted(first))
    gang = placement.place(booking.request, pool)
    assert gang is not None
    late = cluster.hold(booking, builders.quote(booking.request), gang, driver.now, Limits())
    with pytest.raises(PlanConflict):
        async with driver.connection.transaction():
            await rows.save_booking(late.booking, booking)
    assert (await driver.booking("bkg_2")).leases == ()


async def test_the_schema_itself_forbids_a_second_live_lease(driver: Driver) -> None:
    await driver.join_nodes(1, 2)
    await driver.hold(builders.order())
    copy = "INSERT INTO leases SELECT 'lse_2', partner, booking_id, 9, 9, node_id, 9, hourly, address, ports_first,"
    copy += " ports_count, gpus, state, granted_at, 0, 0, NULL, false, false FROM leases LIMIT 1"
    with pytest.raises(asyncpg.UniqueViolationError, match="leases_one_a_node"):
        await driver.connection.execute(copy)
    with pytest.raises(asyncpg.RaiseError, match="cannot fall"):
        await driver.connection.execute("UPDATE nodes SET fence = 0")
