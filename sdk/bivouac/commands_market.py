"""estimate, earnings, market feed: what work will cost, what a GPU will earn, and what others ask."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from bivouac import amounts, market_feed, render_market
from bivouac.command import REFUSED, Session, command
from bivouac.errors import Invalid
from wire.access import MessageRefused
from wire.market import Earnings, EstimateWorkload, GetEarnings, WorkloadClass, WorkloadEstimate
from wire.message import Message
from wire.values import BandwidthTier

_SETTLE_SECONDS = 1.0


def register(app: typer.Typer) -> None:
    command(app, "estimate")(estimate)
    command(app, "earnings")(earnings)
    market = typer.Typer(help="What others ask.", no_args_is_help=True)
    command(market, "feed")(feed)
    app.add_typer(market, name="market")


async def estimate(
    session: Session,
    items: Annotated[int, typer.Option(help="How many items there are to work off.")],
    kind: Annotated[
        list[str],
        typer.Option(
            "--class",
            metavar="MODEL=SECONDS",
            help="A class of node and what one item takes on one of its GPUs, such as 'RTX 4090=0.02'; may be repeated."
            " 'RTX 4090*4=0.02' has four GPUs in each node.",
        ),
    ],
    deadline: Annotated[str, typer.Option(help="Hours until it has to be done.")] = "24",
    setup: Annotated[int, typer.Option(help="Seconds before the first item: start, downloads, loading a model.")] = 60,
    batch: Annotated[int, typer.Option(help="Items in a batch, as Ray gives them to a GPU.")] = 256,
    nodes_max: Annotated[int, typer.Option(help="At most so many nodes.")] = 100,
    tier: Annotated[str, typer.Option(help=f"Bandwidth at least: {', '.join(BandwidthTier)}.")] = "low_1",
    country: Annotated[str, typer.Option(help="Two letters; anywhere when left out.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show every plan, not only the frontier.")] = False,
    plot: Annotated[str, typer.Option(metavar="FILE", help="Write cost over time as SVG.")] = "",
) -> None:
    """How long a workload takes and what it costs, and the cheapest way to have it done in time."""
    if tier not in set(BandwidthTier):
        raise Invalid(f"{tier!r} is no bandwidth tier: choose one of {', '.join(BandwidthTier)}.")
    client = await session.client()
    asked = EstimateWorkload(
        partner=client.identity,
        items=items,
        batch_items=batch,
        setup_seconds=setup,
        deadline_seconds=amounts.parse_hours(deadline),
        classes=tuple(_class(words) for words in kind),
        nodes_max=nodes_max,
        bandwidth_tier=BandwidthTier(tier),
        country=country.upper() or None,
    )
    found = await client.connection.ask(asked, WorkloadEstimate)
    if plot:
        render_market.save(plot, render_market.estimate_plot(found, asked.deadline_seconds))
    session.terminal.answer(render_market.estimate(found, asked.deadline_seconds, everything), found)


async def earnings(
    session: Session,
    render_usd: Annotated[str, typer.Option(help="USD for one RENDER; the network's when left out.")] = "",
    page: Annotated[str, typer.Option(metavar="FILE", help="Write the table as an HTML page.")] = "",
) -> None:
    """What a GPU of each model may earn an hour and a day, beside its break-even, in USD and RENDER."""
    caller = await session.caller()
    price = amounts.parse_usd(render_usd).amount if render_usd else 0
    given = await caller.connection.ask(GetEarnings(identity=caller.identity, render_price_micros=price), Earnings)
    if page:
        render_market.save(page, render_market.earnings_page(given))
    session.terminal.answer(render_market.earnings(given), given)


async def feed(
    session: Session, path: Annotated[Path, typer.Argument(metavar="FILE.csv", help="source,model,hourly_usd,…")]
) -> None:
    """Tell the network what others ask for an hour of a GPU: columns source, model, hourly_usd, bandwidth_tier,
    observed_at."""
    client = await session.client()
    rates = market_feed.read(path, client.identity, time.time_ns() // 1_000_000)
    ids = {rate.id for rate in rates}
    refused: list[MessageRefused] = []

    def heard(message: Message) -> None:
        if isinstance(message, MessageRefused) and message.message_id in ids:
            refused.append(message)

    listening = await client.connection.listen([MessageRefused.pattern(identity=client.identity)], heard)
    for rate in rates:
        await client.connection.publish(rate)
    await asyncio.sleep(_SETTLE_SECONDS)  # a rate that is kept is not answered; one that is not is named at once
    await listening.close()
    for message in refused:
        session.terminal.note(f"Not kept: {message.refusal.detail}")
    document = {"told": len(rates), "refused": [message.refusal for message in refused]}
    session.terminal.answer(f"{len(rates)} rates told, {len(refused)} of them refused.", document)
    if refused:
        raise typer.Exit(REFUSED)


def _class(words: str) -> WorkloadClass:
    """`RTX 4090=0.02`, or `RTX 4090*4=0.02` for four GPUs a node; seconds are kept to a microsecond."""
    model, equals, seconds = words.partition("=")
    if not equals:
        raise Invalid(f"{words!r} is no class: write it like 'RTX 4090=0.02', the seconds that an item takes.")
    name, several, gpus = model.partition("*")
    if several and not (gpus.strip().isascii() and gpus.strip().isdecimal()):
        raise Invalid(f"{words!r} is no class: after the * stands how many GPUs a node has.")
    try:
        micros = amounts.parse_usd(seconds).amount  # six decimals, exactly, like a sum of money
    except Invalid:
        raise Invalid(f"{seconds.strip()!r} is no number of seconds: write it like 0.02, at most 6 decimals.") from None
    kind = WorkloadClass(
        model=name.strip(),
        item_micros=micros,
        gpus_per_node=int(gpus) if several else 1,
    )
    try:
        return msgspec.convert(msgspec.to_builtins(kind), WorkloadClass)
    except msgspec.ValidationError as error:
        raise Invalid(f"{words!r} is no class: {error}.") from error
