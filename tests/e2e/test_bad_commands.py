"""Bad input at the command line: one sentence for a person, one document with a reason for a script, an exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.ids import new_id
from tests.e2e.bus import Bus
from tests.e2e.command_line import Told
from tests.e2e.network import POOR, LiveNetwork
from wire.access import MessageRefused
from wire.booking import BookingEvent
from wire.message import Message
from wire.values import Reason

REFUSED, USAGE = 1, 2
NOBODY = "U" + "A" * 55
CPU = ("--model", "CPU")

# What cannot be said on the bus is told before anything is sent.
UNSAYABLE: dict[str, tuple[str, ...]] = {
    "no command": (),
    "no such command": ("explode",),
    "no such flag": ("quote", *CPU, "--cheap"),
    "no model": ("quote",),
    "no nodes": ("quote", *CPU, "--nodes", "0"),
    "minus one node": ("quote", *CPU, "--nodes", "-1"),
    "half a node": ("quote", *CPU, "--nodes", "1.5"),
    "2^64 nodes": ("quote", *CPU, "--nodes", str(2**64)),
    "a million nodes": ("quote", *CPU, "--nodes", "1000000"),
    "no hours": ("quote", *CPU, "--hours", "0"),
    "minus one hour": ("quote", *CPU, "--hours", "-1"),
    "NaN hours": ("quote", *CPU, "--hours", "nan"),
    "infinite hours": ("quote", *CPU, "--hours", "inf"),
    "hours with an exponent": ("quote", *CPU, "--hours", "1e3"),
    "hours of 4,000 digits": ("quote", *CPU, "--hours", "9" * 4000),
    "a second": ("quote", *CPU, "--hours", "0.0002"),
    "ten years": ("quote", *CPU, "--hours", "87600"),
    "unknown tier": ("quote", *CPU, "--tier", "fast"),
    "country of three letters": ("quote", *CPU, "--country", "USA"),
    "no GPUs": ("quote", *CPU, "--gpus", "0"),
    "model with a newline": ("quote", "--model", "CPU\n"),
    "model that clears the screen": ("quote", "--model", "\x1b[2JCPU"),
    "model with a hang-up": ("quote", "--model", "CPU\x01"),
    "model that is not UTF-8": ("quote", "--model", "CPU\udcff"),
    "maximum of nothing": ("book", *CPU, "--yes", "--max-total", "0"),
    "negative maximum": ("book", *CPU, "--yes", "--max-total", "-5"),
    "NaN maximum": ("book", *CPU, "--yes", "--max-total", "NaN"),
    "maximum in RENDER": ("book", *CPU, "--yes", "--max-total", "5 RENDER"),
    "maximum finer than a micro-USD": ("book", *CPU, "--yes", "--max-total", "0.0000001"),
    "maximum of 4,000 digits": ("book", *CPU, "--yes", "--max-total", "9" * 4000),
    "booking id with a space": ("book", *CPU, "--yes", "--booking-id", "a b"),
    "booking id with a newline": ("status", "bkg_1\n"),
    "nobody to ask": ("book", *CPU),
    "epoch minus one": ("statement", NOBODY, "--epoch", "-1"),
    "epoch 10^20": ("statement", NOBODY, "--epoch", str(10**20)),
    "node that nobody is called": ("statement", "oslo"),
    "profile that is not there": ("--profile", "nowhere", "balance"),
    "key that is none": ("balance", "--key", "/etc/hostname"),
    "identity with a dot": ("balance", "--identity", "acme.umbra"),
}

# What the network itself refuses.
REFUSALS: dict[str, tuple[tuple[str, ...], Reason, bool]] = {
    "unknown model": (("quote", "--model", "RTX 9999"), Reason.unknown_model, True),
    "two GPUs of a CPU": (("quote", *CPU, "--gpus", "2"), Reason.out_of_range, True),
    "more nodes than there are": (("book", *CPU, "--nodes", "3", "--yes"), Reason.no_capacity, True),
    "257 nodes": (("book", *CPU, "--nodes", "257", "--yes", "--max-total", "999"), Reason.out_of_range, True),
    "a country where nobody stands": (("book", *CPU, "--country", "IS", "--yes"), Reason.no_capacity, True),
    "over budget": (("book", *CPU, "--yes", "--max-total", "0.01"), Reason.over_budget, True),
    "a year for two": (("book", *CPU, "--nodes", "2", "--hours", "8784", "--yes"), Reason.insufficient_funds, True),
    "status of nobody's": (("status", "bkg_nobodys"), Reason.unknown_booking, False),
    "release of nobody's": (("release", "bkg_nobodys"), Reason.unknown_booking, False),
    "receipt of nobody's": (("receipt", "bkg_nobodys"), Reason.unknown_booking, False),
    "logs of nobody's": (("logs", "bkg_nobodys", "job_1"), Reason.unknown_booking, False),
    "operator's word of a partner": (("operator", "deposit", "acme", "5"), Reason.not_allowed, False),
    "statement of no epoch": (("statement", NOBODY, "--epoch", "999"), Reason.epoch_open, False),
}


def one_sentence(told: Told) -> None:
    """On stderr: what the document says, perhaps what is nearest, and nothing that steers a terminal."""
    nearest = f" Nearest: {told.error['nearest']}" if told.error["nearest"] else ""
    assert " ".join(told.err.split()) == " ".join(f"{told.error['detail']}{nearest}".split())
    assert told.error["detail"].isprintable() and len(told.error["detail"]) < 1000
    assert "Traceback" not in told.err


@pytest.mark.parametrize("name", UNSAYABLE)
async def test_what_cannot_be_said_is_not_sent(name: str, live_network: LiveNetwork, bus: Bus) -> None:
    heard = len(said_of_bookings(bus))
    told = (
        await live_network.command(*UNSAYABLE[name], "--json")
        if name != "no command"
        else await live_network.command("--json")
    )
    assert told.code == USAGE
    assert set(told.error) == {"reason", "detail", "nearest"}
    assert told.error["reason"] == "usage"
    one_sentence(told)
    assert len(said_of_bookings(bus)) == heard


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_the_network_refuses_has_a_reason(name: str, live_network: LiveNetwork, bus: Bus) -> None:
    words, reason, nearest = REFUSALS[name]
    told = await live_network.command(*words, "--json")
    assert told.code == REFUSED
    assert told.error["reason"] == reason
    assert bool(told.error["nearest"]) is nearest
    one_sentence(told)


async def test_who_has_too_little_is_told_what_to_deposit(live_network: LiveNetwork, bus: Bus) -> None:
    told = await live_network.command("book", *CPU, "--yes", "--json", as_=POOR)
    assert (told.code, told.error["reason"]) == (REFUSED, Reason.insufficient_funds)
    assert "deposit" in told.error["nearest"]


async def test_a_booking_said_again_is_the_same_one_and_another_is_refused(live_network: LiveNetwork, bus: Bus) -> None:
    words = ("book", *CPU, "--nodes", "3", "--yes", "--json", "--booking-id", new_id("bkg"))
    for _ in range(2):
        assert (await live_network.command(*words)).error["reason"] == Reason.no_capacity
    told = await live_network.command(*words, "--hours", "2")
    assert (told.code, told.error["reason"]) == (REFUSED, Reason.id_reused)
    assert told.error["nearest"]


async def test_what_is_over_is_released_in_vain(live_network: LiveNetwork, bus: Bus) -> None:
    booking_id = new_id("bkg")
    await live_network.command("book", *CPU, "--nodes", "3", "--yes", "--json", "--booking-id", booking_id)
    for _ in range(2):
        told = await live_network.command("release", booking_id, "--json")
        assert told.code == REFUSED
        assert told.error["reason"] == Reason.no_capacity, "why it never began"
    told = await live_network.command("logs", booking_id, "job_never", "--json")
    assert (told.code, told.error["reason"]) == (USAGE, "usage")


async def test_a_payment_under_a_used_name_is_refused(live_network: LiveNetwork, bus: Bus) -> None:
    words = ("operator", "deposit", "nobody_in_particular", "0.01", "--reference", new_id("pay"), "--json")
    for _ in range(2):
        assert (await live_network.command(*words, as_="operator")).code == 0
    told = await live_network.command(*words[:3], "0.02", *words[4:], as_="operator")
    assert (told.code, told.error["reason"]) == (REFUSED, Reason.id_reused)


async def test_a_name_has_one_key(live_network: LiveNetwork, bus: Bus) -> None:
    told = await live_network.command("operator", "register-partner", "acme", NOBODY, "--json", as_="operator")
    assert (told.code, told.error["reason"]) == (REFUSED, Reason.already_registered)
    assert told.error["nearest"]
    for words in (("register-partner", "nova", "U"), ("deposit", "No Name", "5"), ("ban", "nobody")):
        assert (await live_network.command("operator", *words, "--json", as_="operator")).code == USAGE


async def test_a_key_that_nobody_registered_says_so(live_network: LiveNetwork, bus: Bus, tmp_path: Path) -> None:
    seed = tmp_path / "stranger.seed"
    assert (await live_network.command("keys", "new", str(seed))).code == 0
    told = await live_network.command("balance", "--key", str(seed), "--json")
    assert told.code == REFUSED
    one_sentence(told)


async def test_a_network_that_is_not_there_says_so(live_network: LiveNetwork, bus: Bus) -> None:
    told = await live_network.command("balance", "--url", "nats://127.0.0.1:9", "--json")
    assert (told.code, told.error["reason"]) == (REFUSED, "unreachable")
    assert "bivouac up" in told.error["detail"]


async def test_without_json_stdout_holds_answers_alone(live_network: LiveNetwork, bus: Bus) -> None:
    told = await live_network.command("status", "bkg_nobodys")
    assert (told.code, told.out) == (REFUSED, "")
    assert told.err == "There is no booking bkg_nobodys of yours.\n"
    told = await live_network.command("balance", "--json")
    assert json.loads(told.out)["in_escrow"] == {"amount": 0, "asset": "USD"} and not told.err


def said_of_bookings(bus: Bus) -> list[Message]:
    """Test jobs and reputation go on by themselves; what counts here is what commands bring about."""
    return [message for message in bus.heard if isinstance(message, BookingEvent | MessageRefused)]
