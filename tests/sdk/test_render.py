"""Tables: every number that is shown follows from others that are shown, by the formula that stands beside it."""

import re
from collections.abc import Iterator
from decimal import ROUND_FLOOR, Decimal, localcontext
from typing import Any

import pytest
from rich.console import Console, RenderableType

from bivouac import render
from tests.sdk import told
from wire.ledger import EpochClosed, NodeReward, Statement
from wire.values import Money, usd

NAMES = {told.HEAD: "lima", told.WORKER: "oslo"}
POOLS: dict[str, Any] = {
    "emission": Money(17_112_757_500_000, "RENDER"),
    "usd_compute": usd(744),
    "usd_render": usd(70_000_000_000),
    "compute_pool": Money(181_884 + 16, "RENDER"),
    "availability_pool": Money(1_901_417_500_000, "RENDER"),
    "compute_carried_in": Money(16, "RENDER"),
    "availability_carried_in": Money(5, "RENDER"),
    "all_coupons": Money(744, "COUPON"),
    "all_weights": "512112582106316407892562280448",
}


def reward(node: str, job: int, weight: str, availability: int) -> NodeReward:
    return NodeReward(
        node_id=node,
        coupons=Money(372, "COUPON"),
        score_millionths=0,
        job_reward=Money(job, "RENDER"),
        availability_reward=Money(availability, "RENDER"),
        weight=weight,
    )


LIMA = reward(told.HEAD, 90_950, "1357118732227070131200000000", 5_038_832_080)
OSLO = reward(told.WORKER, 90_950, "510755463374089337761362280448", 1_896_378_667_920)


def shown(table: RenderableType) -> str:
    console = Console(width=200)  # as strict as any that another program may print them on
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def numbers(text: str) -> list[Decimal]:
    return [Decimal(word.replace(",", "")) for word in re.findall(r"\d[\d,]*\.?\d*", text)]


def line(text: str, beginning: str) -> str:
    return next(each for each in text.splitlines() if each.strip().startswith(beginning))


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    """Weights have more digits than Decimal keeps by itself."""
    with localcontext(prec=90):
        yield


def floored(value: Decimal) -> Decimal:
    return value.quantize(Decimal("1E-8"), ROUND_FLOOR)


def test_a_statement_can_be_recomputed_from_what_it_shows() -> None:
    given = Statement(
        epoch=7, reward=LIMA, uses=(told.USE,), all_scores_millionths=0, balance=Money(9, "RENDER"), **POOLS
    )
    text = shown(render.statement(given, NAMES))
    emission, burned, again, rendering, compute = numbers(line(text, "C_t ="))
    assert floored(emission * burned / (again + rendering)) == compute == Decimal("0.00181884")
    part, carried, pool = numbers(line(text, "compute pool"))
    assert part + carried == pool
    set_aside, carried, idle_pool = numbers(line(text, "availability pool"))
    assert set_aside + carried == idle_pool
    mine, everybodys, whole, paid = numbers(line(text, "job reward"))
    assert whole == pool
    assert floored(mine / everybodys * whole) == paid
    weight, weights, whole = numbers(line(text, "1357118732227070131200000000"))
    availability = numbers(line(text, "availability = "))[0]
    assert whole == idle_pool
    assert abs(weight / weights * whole - availability) < Decimal("1E-8")
    first, second, both = numbers(line(text, "paid in all"))[:3]
    assert (first, second, first + second) == (paid, availability, both)
    hourly, ms, cost, fee, rest, coupons = numbers(line(text, "lima"))
    assert (hourly * ms / 3_600_000).quantize(Decimal("1E-6"), ROUND_FLOOR) == cost
    assert fee + rest == cost
    assert rest == coupons


def test_an_epoch_adds_up() -> None:
    given = EpochClosed(
        epoch=7,
        started_at=1,
        ended_at=2,
        carried_over=Money(0, "RENDER"),
        burned=Money(18_600, "RENDER"),
        rewards=(LIMA, OSLO),
        nodes=3,
        **POOLS,
    )
    text = shown(render.epoch(given, NAMES))
    rows = [numbers(line(text, name)) for name in ("lima", "oslo", "all")]
    for column in range(5):
        assert rows[0][column] + rows[1][column] == rows[2][column]
    assert "1 more nodes earned something" in text


def test_hostile_words_are_shown_as_words() -> None:
    status = told.status("bkg_1", state="refused", detail="[bold red]not markup[/] :smile:")
    assert "[bold red]not markup[/] :smile:" in shown(render.booking(status))
