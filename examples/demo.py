"""One booking told from end to end: quote, escrow, cluster, a job that outlives a killed node, receipt and pay."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bivouac import render
from bivouac.booking import Booking
from bivouac.client import Client, cluster
from bivouac.errors import BivouacError
from bivouac.job import Job
from bivouac.narrate import line as line_of
from bivouac.operator import Operator
from wire.booking import ClusterReady, NodeReplaced, ReplacementReady
from wire.ledger import EpochClosed
from wire.message import Message

ROOT = Path(__file__).parent.parent
WORK = ROOT / "examples" / "batch_inference"
DEFAULT_DATA = Path("~/.bivouac/demo")
KILL_AFTER = 0.25
HOURS = "0.5"
MAX_TOTAL = "1.00"


class DemoFailed(Exception):
    """What the demo shows did not come true; the text says what."""


class Stage:
    """Where the story is told: numbered headings, lines of events, and bars where one waits."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False)
        if not self.console.is_terminal:
            self.console.width = max(self.console.width, 120)
        self.names: dict[str, str] = {}
        self.heard: dict[str, Message] = {}
        self._chapter = 0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        self.console.print(f"\n[bold]{self._chapter}. {title}[/bold]")

    def event(self, message: Message) -> None:
        """A line for an event, once."""
        if message.id not in self.heard:
            self.heard[message.id] = message
            self.console.print(f"   {line_of(message, self.names)}", markup=False)

    @contextlib.contextmanager
    def bar(self, label: str, total: float | None) -> Any:
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            yield progress, progress.add_task(label, total=total)


@contextlib.asynccontextmanager
async def network(stage: Stage, data: Path) -> AsyncIterator[dict[str, Any]]:
    """The local network as a process of its own; yields what its network.json says."""
    words = [sys.executable, "-m", "services", "up", "--data", str(data), "--json", "--quiet"]
    child = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, cwd=ROOT, process_group=0)
    assert child.stdout is not None
    try:
        async for line in child.stdout:
            said = json.loads(line)["network"]
            if said.startswith("ready"):
                break
            stage.console.print(f"   {said}", markup=False)
        else:
            raise DemoFailed("The network did not start; what it said stands above.")
        silent = asyncio.create_task(drain(child.stdout))
        yield json.loads((data / "network.json").read_text())
        silent.cancel()
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        await child.wait()


async def drain(stream: asyncio.StreamReader) -> None:
    async for _ in stream:
        pass


async def book(stage: Stage, client: Client) -> Booking:
    """Quote, order, and the wait for the cluster; billing begins at its end."""
    stage.chapter("acme asks for a price and books two nodes, all or nothing")
    view = await client.fleet()
    stage.names.update({node.node_id: node.name for node in view.nodes})
    models = sorted({node.model for node in view.nodes}, key=lambda model: (model == "CPU", model))
    wanted = next(model for model in models if sum(node.model == model for node in view.nodes) >= 3 or model == "CPU")
    if wanted == "CPU":
        stage.console.print("   There are not three GPUs here for a gang of two and a spare: the CPU pool is booked.")
    request = cluster(2, wanted, HOURS)
    quote = await client.quote(request)
    stage.console.print(render.quote(quote))
    booking = await client.book(request, max_total=MAX_TOTAL, quote_id=quote.quote_id)
    began = time.monotonic()
    with stage.bar("waiting for the cluster", 1.0) as (progress, task):
        async for event in booking.events():
            stage.event(event)
            steps = ["placed", "quoted", "held", "escrowed", "ready"]
            if event.verb() in steps:
                progress.update(task, completed=(steps.index(event.verb()) + 1) / len(steps))
            if isinstance(event, ClusterReady) or booking.view.gone:
                break
    await booking.ready()
    stage.console.print(
        f"   A Ray cluster of 2 nodes, {time.monotonic() - began:.1f} s after the order. Billing begins now."
    )
    return booking


async def run(stage: Stage, booking: Booking, state: dict[str, Any]) -> Job:
    """The job, its log live, and the kill in the middle of it."""
    stage.chapter(
        "A real job: train a classifier on scikit-learn's digits, then batch inference with Ray Data and torch"
    )
    repeat = os.environ.get("DEMO_REPEAT")
    job = await booking.run(["python", "infer.py"], files=WORK, environment={"REPEAT": repeat} if repeat else {})
    worker = booking.view.nodes[1]
    victim = state["nodes"][stage.names[worker]]["pid"]
    telling = asyncio.create_task(tell_events(stage, booking))
    killed = False
    with stage.bar("inference", 1.0) as (progress, task):
        async for line in job.logs():
            share = share_done(line)
            if share is None:
                stage.console.print(f"   | {line}", markup=False)
                continue
            progress.update(task, completed=share)
            if share >= KILL_AFTER and not killed:
                os.kill(victim, signal.SIGKILL)
                killed = True
                stage.chapter(f"{stage.names[worker]}, a worker, is killed with SIGKILL at {share:.0%} of the job")
    telling.cancel()
    if not killed:
        raise DemoFailed("The job was over before the worker could be killed.")
    return job


def share_done(line: str) -> float | None:
    """The job prints `progress 0.37`; everything else is shown as it is."""
    words = line.split()
    if len(words) == 2 and words[0] == "progress":
        with contextlib.suppress(ValueError):
            return float(words[1])
    return None


async def tell_events(stage: Stage, booking: Booking) -> None:
    async for event in booking.events():
        stage.event(event)


async def show_result(stage: Stage, job: Job) -> None:
    stage.chapter("The result comes back as a file, by digest")
    with tempfile.TemporaryDirectory(prefix="bivouac-demo-") as folder:
        found = await job.result(Path(folder) / "result")
        view = await job.finished()
        assert view.result is not None
        stage.console.print(f"   {view.result.size:,} bytes, SHA-256 {view.result.digest}", markup=False)
        for path in found:
            stage.console.print(f"   {path}", markup=False)
        summary = json.loads((Path(folder) / "result" / "summary.json").read_text())
        stage.console.print(f"   {json.dumps(summary)}", markup=False)


async def settle(stage: Stage, booking: Booking, operator: Operator) -> EpochClosed:
    stage.chapter("The booking is released: what was not used goes back, 5 % is the fee, 95 % is burned")
    receipt = await booking.release()
    stage.console.print(render.receipt(receipt, stage.names))
    if receipt.escrowed.amount != receipt.cost.amount + receipt.refunded.amount or receipt.remaining.amount:
        raise DemoFailed("The receipt does not add up.")
    stage.chapter("The epoch closes: pay in RENDER for work, and for being there")
    closed = await operator.close_epoch()
    stage.console.print(render.epoch(closed, stage.names))
    for reward in closed.rewards:
        if reward.coupons.amount:
            stage.console.print(render.statement(await operator.statement(reward.node_id, closed.epoch), stage.names))
    report = await operator.audit()
    stage.console.print(render.audit(report))
    if not report.passed:
        raise DemoFailed("The auditor found the ledger wrong.")
    return closed


async def story(stage: Stage, data: Path) -> None:
    began = time.monotonic()
    stage.chapter(
        "A network of its own starts on this machine: real NATS, PostgreSQL, Valkey, services and node agents"
    )
    async with network(stage, data) as state:
        url, keys = state["nats_url"], data / "keys"
        async with (
            await Client.connect(url, identity="acme", key_file=keys / "acme.seed") as client,
            await Operator.connect(url, identity="operator", key_file=keys / "operator.seed") as operator,
        ):
            booking = await book(stage, client)
            job = await run(stage, booking, state)
            await show_result(stage, job)
            for kind in (NodeReplaced, ReplacementReady):
                if not any(isinstance(event, kind) for event in stage.heard.values()):
                    raise DemoFailed(f"The killed worker was not replaced: no {kind.__name__} was heard.")
            await settle(stage, booking, operator)
    stage.console.print(
        f"\nTold in {time.monotonic() - began:.0f} s; nothing is left running. Data: {data}", markup=False
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="scripts/demo")
    parser.add_argument(
        "--data", type=Path, default=DEFAULT_DATA, help="where the demo's network lives; emptied first (%(default)s)"
    )
    options = parser.parse_args()
    stage = Stage()
    data: Path = options.data.expanduser().absolute()
    if (data / "keys").exists():
        shutil.rmtree(data)
    elif data.exists() and any(data.iterdir()):
        stage.console.print(f"demo: {data} is not a network's directory and is not empty; choose another with --data.")
        return 2
    try:
        asyncio.run(story(stage, data))
    except (DemoFailed, BivouacError) as error:
        stage.console.print(f"demo: {error} The logs are in {data / 'logs'}.", markup=False)
        return 1
    except KeyboardInterrupt:
        stage.console.print("demo: stopped; nothing is left running.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
