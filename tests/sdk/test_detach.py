"""Ctrl-C leaves what was begun alone, and says how to come back; a terminal is asked, and shown a price first."""

import asyncio
import json
import os
import pty
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from bivouac.keys import new_seed, write_seed
from tests.sdk import told
from tests.sdk.conftest import PARTNER, Network, Server
from wire.booking import GetBooking, PlaceBooking, ReleaseBooking
from wire.job import CancelJob, SubmitJob
from wire.quote import GetQuote, QuoteGiven
from wire.quote import Refused as RefusedReply
from wire.values import Reason, Refusal


@pytest.fixture
def bivouac(nats_server: Server, network: Network, tmp_path: Path) -> list[str]:
    """The command line of acme, as a process of its own."""
    write_seed(tmp_path / "acme.seed", new_seed())
    told_profile = {"url": nats_server.url, "identity": PARTNER, "key_file": "acme.seed"}
    (tmp_path / "acme.json").write_text(json.dumps(told_profile))
    return [sys.executable, "-m", "bivouac", "--profile", str(tmp_path / "acme.json")]


async def interrupted(process: Process) -> str:
    process.send_signal(signal.SIGINT)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 130
    assert b"Traceback" not in said
    return said.decode()


async def test_ctrl_c_while_waiting_for_the_cluster_leaves_the_booking(bivouac: list[str], network: Network) -> None:
    await network.answers(GetQuote, lambda query: QuoteGiven(quote=told.QUOTE))
    unknown = RefusedReply(refusal=Refusal(reason=Reason.unknown_booking))
    await network.answers(GetBooking, lambda query: unknown)
    words = ("book", "--model", "CPU", "--yes", "--booking-id", "bkg_mine")
    process = await asyncio.create_subprocess_exec(*bivouac, *words, stdout=PIPE, stderr=PIPE)
    await network.told(PlaceBooking)
    said = await interrupted(process)
    assert "Detached" in said
    assert "bivouac status bkg_mine" in said
    assert not [message for message in network.heard if isinstance(message, ReleaseBooking)]


async def test_ctrl_c_while_a_job_runs_leaves_the_job(bivouac: list[str], network: Network, tmp_path: Path) -> None:
    await network.answers(GetBooking, lambda query: told.status(query.booking_id, state="ready", ready_at=5))
    network.on(SubmitJob, lambda order: (told.accepted(order), told.log(order, 0, "working")))
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "main.py").write_text("")
    words = ("run", "bkg_1", "--files", str(tmp_path / "files"), "--", "python", "main.py")
    process = await asyncio.create_subprocess_exec(*bivouac, *words, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 20) == b"working\n"
    said = await interrupted(process)
    job_id = (await network.told(SubmitJob)).job_id
    assert f"bivouac logs bkg_1 {job_id}" in said
    assert not [message for message in network.heard if isinstance(message, CancelJob)]


@pytest.mark.parametrize(("answer", "booked"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
async def test_a_terminal_is_asked_after_it_was_shown_the_price(
    bivouac: list[str], network: Network, answer: bytes, booked: bool
) -> None:
    await network.answers(GetQuote, lambda query: QuoteGiven(quote=told.QUOTE))
    network.on(PlaceBooking, told.ready)
    ours, theirs = pty.openpty()
    words = ("book", "--model", "CPU", "--nodes", "2")
    process = await asyncio.create_subprocess_exec(*bivouac, *words, stdin=theirs, stdout=PIPE, stderr=PIPE)
    os.close(theirs)
    os.write(ours, answer)
    shown, asked = await asyncio.wait_for(process.communicate(), 30)
    os.close(ours)
    assert b"0.625 USD" in shown, asked.decode()
    assert b"Book this for at most 0.625 USD? [y/n]" in asked
    assert process.returncode == (0 if booked else 1)
    assert any(isinstance(message, PlaceBooking) for message in network.heard) is booked
    assert (b"is ready" in shown) is booked
