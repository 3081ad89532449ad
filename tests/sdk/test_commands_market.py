"""estimate, earnings and market feed at the command line: tables, one JSON document, files, and one sentence."""

import asyncio
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from bivouac.chart import Axis, Mark, Series, chart
from bivouac.errors import Invalid
from bivouac.keys import new_seed, write_seed
from bivouac.main import build
from bivouac.market_feed import read
from tests.sdk.conftest import PARTNER, Network, Server
from wire.access import MessageRefused
from wire.market import (
    Earnings,
    EstimateWorkload,
    GetEarnings,
    MarketRate,
    ModelEarning,
    WorkloadClass,
    WorkloadEstimate,
    WorkloadPlan,
)
from wire.values import Money, Reason, Refusal, usd

Run = Callable[..., Awaitable[Result]]
PLANS = tuple(
    WorkloadPlan(
        model="RTX 4090",
        nodes=nodes,
        gpus_per_node=1,
        batches=10,
        sequences=10 // nodes,
        seconds=seconds,
        hourly=usd(370_139),
        total=usd(total),
        in_time=seconds <= 3600,
        frontier=frontier,
        chosen=chosen,
    )
    for nodes, seconds, total, frontier, chosen in (
        (5, 1200, 616_899, True, False),
        (2, 3600, 500_000, True, True),
        (3, 3700, 900_000, False, False),
        (1, 7200, 400_000, True, False),
    )
)
EARNING = ModelEarning(
    model="RTX 4090",
    list_price=usd(1_599_000_000),
    list_price_render=Money(31_980_000_000, "RENDER"),
    price_hourly=usd(370_139),
    earned_hourly=usd(351_632),
    use_permille=600,
    use_from="pool",
    earned_daily=usd(5_063_500),
    power_daily=usd(972_000),
    break_even_hourly=usd(370_139),
    break_even_days=391,
)


@pytest.fixture
def run(nats_server: Server, network: Network, tmp_path: Path) -> Run:
    key = tmp_path / "acme.seed"
    write_seed(key, new_seed())
    profile = {"url": nats_server.url, "identity": PARTNER, "role": "partner", "key_file": "acme.seed"}
    (tmp_path / "acme.json").write_text(json.dumps(profile))

    async def invoke(*words: str) -> Result:
        line = ["--profile", str(tmp_path / "acme.json"), *words]
        return await asyncio.to_thread(CliRunner().invoke, build(), line)

    return invoke


async def test_an_estimate_is_asked_shown_and_plotted(run: Run, network: Network, tmp_path: Path) -> None:
    asked: list[EstimateWorkload] = []

    def answer(query: EstimateWorkload) -> WorkloadEstimate:
        asked.append(query)
        return WorkloadEstimate(plans=PLANS)

    await network.answers(EstimateWorkload, answer)
    words = ("estimate", "--items", "10000", "--class", "RTX 4090=0.02", "--class", "H100 * 8=0.004", "--setup", "90")
    plot = tmp_path / "plan.svg"
    result = await run(*words, "--batch", "1000", "--deadline", "1", "--plot", str(plot))
    assert result.exit_code == 0
    (query,) = asked
    assert (query.items, query.batch_items, query.setup_seconds, query.deadline_seconds) == (10_000, 1000, 90, 3600)
    assert query.classes == (
        WorkloadClass(model="RTX 4090", item_micros=20_000),
        WorkloadClass(model="H100", item_micros=4000, gpus_per_node=8),
    )
    (chosen,) = [line for line in result.stdout.splitlines() if "→" in line]
    assert "0.50" in chosen and "1 h" in chosen
    assert "0.90" not in result.stdout and "1 plans that are hardly cheaper" in result.stdout
    assert "0.90" in (await run(*words, "--all")).stdout
    drawn = ElementTree.fromstring(plot.read_text())
    assert len([node for node in drawn.iter() if node.tag.endswith("circle")]) == len(PLANS) + 1
    document = json.loads((await run(*words, "--json")).stdout)
    assert [plan["chosen"] for plan in document["plans"]] == [False, True, False, False]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("RTX 4090", "write it like"),
        ("RTX 4090=fast", "no number of seconds"),
        ("RTX 4090=0", "no number of seconds"),
        ("RTX 4090*x=0.1", "how many GPUs"),
        ("RTX 4090*65=0.1", "is no class"),
        ("=1", "is no class"),
    ],
)
async def test_a_class_that_is_none_is_a_sentence(run: Run, kind: str, sentence: str) -> None:
    result = await run("estimate", "--items", "10", "--class", kind)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr.replace("\n", " ")


async def test_earnings_as_table_document_and_page(run: Run, network: Network, tmp_path: Path) -> None:
    asked: list[GetEarnings] = []

    def answer(query: GetEarnings) -> Earnings:
        asked.append(query)
        return Earnings(rows=(EARNING,), render_price_micros=query.render_price_micros, at=1)

    await network.answers(GetEarnings, answer)
    page = tmp_path / "earnings.html"
    result = await run("earnings", "--render-usd", "5", "--page", str(page))
    assert result.exit_code == 0
    assert asked[0].render_price_micros == 5_000_000
    text = page.read_text()
    for number in ("1,599.00", "319.8000", "0.370139", "5.0635", "391", "RENDER at 5.00 USD"):
        assert number in text
    assert "http" not in text and "<script" not in text
    document = json.loads((await run("earnings", "--json")).stdout)
    assert document["rows"][0]["earned_daily"]["amount"] == 5_063_500
    assert (await run("earnings", "--page", str(tmp_path / "no" / "page.html"))).exit_code == 1


async def test_a_feed_is_told_row_by_row_and_what_is_refused_is_named(
    run: Run, network: Network, tmp_path: Path
) -> None:
    def answer(rate: MarketRate) -> Any:
        if rate.model != "RTX 3091":
            return ()
        refusal = Refusal(reason=Reason.unknown_model, detail="Nothing is priced as RTX 3091.")
        return MessageRefused(identity=PARTNER, subject_refused=rate.subject(), message_id=rate.id, refusal=refusal)

    network.on(MarketRate, answer)
    path = tmp_path / "rates.csv"
    path.write_text(
        "source,model,hourly_usd,bandwidth_tier,observed_at\n"
        "vast,RTX 4090,0.29,high_1,2026-01-02T03:04:05Z\n"
        "runpod,RTX 3091,0.34,,\n"
    )
    result = await run("market", "feed", str(path))
    assert result.exit_code == 1
    assert "2 rates told, 1 of them refused" in result.stdout
    assert "Nothing is priced as RTX 3091." in result.stderr
    first = next(message for message in network.heard if isinstance(message, MarketRate))
    assert (first.partner, first.source, first.hourly_micros) == (PARTNER, "vast", 290_000)
    assert (first.bandwidth_tier.value, first.observed_at) == ("high_1", 1_767_323_045_000)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "columns"),
        ("a,b\n1,2\n", "columns"),
        ("source,model,hourly_usd\nvast,RTX 4090,nan\n", "Row 2: 'nan'"),
        ("source,model,hourly_usd\nvast,RTX 4090,-1\n", "negative"),
        ("source,model,hourly_usd\nvast,RTX 4090,99999999\n", "Row 2"),
        ("source,model,hourly_usd\nva\x07st,RTX 4090,1\n", "source"),
        ("source,model,hourly_usd,observed_at\nvast,RTX 4090,1,yesterday\n", "Row 2"),
        ("source,model,hourly_usd,bandwidth_tier\nvast,RTX 4090,1,warp\n", "warp"),
    ],
)
def test_a_wrong_row_tells_nothing(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(Invalid, match=sentence):
        read(path, "acme", 1)


def test_the_same_file_says_nothing_new(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    path.write_text("source,model,hourly_usd,observed_at\nvast,RTX 4090,1,17\n")
    once, again = read(path, "acme", 1), read(path, "acme", 2)
    assert msgspec.json.encode(once) == msgspec.json.encode(again)


def test_a_chart_is_wellformed_and_has_what_it_was_given() -> None:
    series = [Series("a < b & c", [(1, 2), (3, 4)]), Series("dots", [(2, 3)], line=False, dots=True)]
    drawn = ElementTree.fromstring(chart("t", Axis("x"), Axis("y", logarithmic=True), series, [Mark(2, "here")]))
    words = {node.text for node in drawn.iter() if node.tag.endswith("text")}
    assert {"a < b & c", "dots", "here", "t"} <= words
    assert chart("flat", Axis("x"), Axis("y"), [Series("one", [(5, 5)])])
    with pytest.raises(ValueError):
        chart("t", Axis("x"), Axis("y"), [Series("none", [])])
