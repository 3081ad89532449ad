"""The `bivouac` command: one JSON document with --json, one sentence on a failure, exit codes that scripts can read."""

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.js.object_store import ObjectStore
from typer.testing import CliRunner, Result

from bivouac.keys import new_seed as fresh_seed
from bivouac.keys import public_key, read_seed, write_seed
from bivouac.main import build
from tests.sdk import told
from tests.sdk.conftest import PARTNER, Network, Server
from wire.booking import BookingList, BookingRefused, GetBooking, ListBookings, PlaceBooking, ReleaseBooking
from wire.job import Artefact, JobRefused, SubmitJob
from wire.ledger import AuditCheck, AuditReport, Balance, Deposit, DepositBooked, GetAudit, GetBalance, GetReceipt
from wire.names import bucket_of_partner
from wire.node import FleetNode, FleetView, GetFleet
from wire.quote import GetQuote, QuoteGiven
from wire.quote import Refused as RefusedReply
from wire.values import Reason, Refusal, usd

Run = Callable[..., Awaitable[Result]]
NO_CAPACITY = Refusal(reason=Reason.no_capacity, detail="Only 1 node is free.", nearest="1 node for 1 h")


def fleet(query: GetFleet) -> FleetView:
    rows = [
        FleetNode(
            node_id=node_id,
            name=name,
            model="CPU",
            gpus=0,
            country="US",
            bandwidth_tier="low_1",
            state="free",
            reputation_millis=500,
            last_seen_at=1,
        )
        for node_id, name in ((told.HEAD, "lima"), (told.WORKER, "oslo"))
    ]
    return FleetView(nodes=tuple(rows))


@pytest.fixture
def run(nats_server: Server, network: Network, tmp_path: Path) -> Run:
    """Runs a command line as acme, in a thread, because each command has a loop of its own."""
    key = tmp_path / "acme.seed"
    write_seed(key, fresh_seed())
    told_profile = {"url": nats_server.url, "identity": PARTNER, "role": "partner", "key_file": "acme.seed"}
    (tmp_path / "acme.json").write_text(json.dumps(told_profile))

    async def invoke(*words: str, stdin: str = "") -> Result:
        line = ["--profile", str(tmp_path / "acme.json"), *words]
        return await asyncio.to_thread(CliRunner().invoke, build(), line, input=stdin)

    return invoke


def document(result: Result) -> Any:
    """Stdout as one JSON document, and not a word beside it."""
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout)


async def answer_everything(network: Network) -> None:
    network.on(PlaceBooking, told.ready)
    network.on(ReleaseBooking, told.settled)
    network.on(
        Deposit, lambda o: DepositBooked(partner=o.partner, amount=o.amount, wallet=usd(1), reference=o.reference)
    )
    report = AuditReport(
        passed=False, transfers=3, head="0" * 64, checks=(AuditCheck(name="I1", holds=False, detail=""),)
    )
    ready = {"state": "ready", "ready_at": 5, "node_ids": (told.HEAD, told.WORKER)}
    answers: dict[Any, Any] = {
        GetQuote: lambda query: QuoteGiven(quote=told.QUOTE),
        GetFleet: fleet,
        GetReceipt: told.receipt,
        GetBalance: lambda query: Balance(wallet=usd(12_500_000), in_escrow=usd(1)),
        GetBooking: lambda query: told.status(query.booking_id, **ready),
        ListBookings: lambda query: BookingList(bookings=(told.status("bkg_1", state="settled"),)),
        GetAudit: lambda query: report,
    }
    for kind, rule in answers.items():
        await network.answers(kind, rule)


async def test_each_answer_is_one_json_document(run: Run, network: Network) -> None:
    await answer_everything(network)
    quoted = document(await run("quote", "--model", "CPU", "--nodes", "2", "--json"))
    assert (quoted["quote_id"], quoted["total"]) == ("qte_1", {"amount": 625_000, "asset": "USD"})
    booked = document(await run("book", "--model", "CPU", "--nodes", "2", "--yes", "--json"))
    assert (booked["state"], booked["nodes"]) == ("ready", [told.HEAD, told.WORKER])
    assert [row["booking_id"] for row in document(await run("status", "--json"))] == ["bkg_1"]
    assert document(await run("status", "bkg_9", "--json"))["booking_id"] == "bkg_9"
    assert document(await run("balance", "--json"))["wallet"]["amount"] == 12_500_000
    assert [row["name"] for row in document(await run("nodes", "--json"))["nodes"]] == ["lima", "oslo"]
    assert document(await run("receipt", "bkg_9", "--json"))["cost"]["amount"] == told.USE.cost.amount
    assert document(await run("release", "bkg_9", "--json"))["refunded"]["amount"] == 616_909


async def test_people_see_a_plan_and_a_receipt_whose_numbers_follow(run: Run, network: Network) -> None:
    await answer_everything(network)
    shown = (await run("book", "--model", "CPU", "--nodes", "2", "--yes")).stdout
    assert "2 nodes of CPU for 1 h" in shown
    assert "0.3125 × 2 nodes × 3,600 s / 3,600 = 0.625 USD" in shown
    assert "is ready: lima, oslo" in shown
    bill = (await run("release", "bkg_9")).stdout
    for number in ("0.3125 × 93,210", "0.008091", "0.000405", "0.007686", "0.616909"):
        assert number in bill
    assert 312_500 * 93_210 // 3_600_000 == 8091
    assert 405 + 7686 == 8091
    assert "wallet 12.50 USD, in escrow 0.000001 USD" in (await run("balance")).stdout


async def test_a_refusal_is_a_sentence_and_the_nearest_that_would_work(run: Run, network: Network) -> None:
    await answer_everything(network)
    network.on(PlaceBooking, lambda order: BookingRefused(**told.ids(order), refusal=NO_CAPACITY))
    result = await run("book", "--model", "CPU", "--yes")
    assert result.exit_code == 1
    assert "Only 1 node is free.\nNearest: 1 node for 1 h\n" in result.stderr
    result = await run("book", "--model", "CPU", "--yes", "--json")
    assert result.exit_code == 1
    assert document(result) == {
        "error": {"reason": "no_capacity", "detail": "Only 1 node is free.", "nearest": "1 node for 1 h"}
    }


async def test_above_the_maximum_nobody_is_asked_and_the_network_says_what_fits(run: Run, network: Network) -> None:
    await answer_everything(network)
    over = Refusal(reason=Reason.over_budget, detail="It costs 0.625 USD.", nearest="1 node")
    network.on(PlaceBooking, lambda order: BookingRefused(**told.ids(order), refusal=over))
    result = await run("book", "--model", "CPU", "--nodes", "2", "--max-total", "0.10")
    assert result.exit_code == 1
    assert "above your maximum of 0.10 USD" in result.stderr
    assert "Nearest: 1 node" in result.stderr
    assert (await network.told(PlaceBooking)).max_total == usd(100_000)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--model", "CPU", "--max-total", "-1"), "negative"),
        (("--model", "CPU", "--max-total", "nan"), "not an amount"),
        (("--model", "CPU", "--hours", "0"), "Zero"),
        (("--model", "CPU", "--hours", "inf"), "not a number of hours"),
        (("--model", "CPU", "--nodes", "0"), "nodes"),
        (("--model", "CPU", "--nodes", "1000000"), "nodes"),
        (("--model", "CPU\x07"), "model"),
        (("--model", "CPU", "--tier", "warp"), "no bandwidth tier"),
        (("--model", "CPU", "--country", "Slovenia"), "country"),
    ],
)
async def test_what_cannot_be_booked_is_a_sentence_and_code_2(
    run: Run, network: Network, words: tuple[str, ...], reason: str
) -> None:
    result = await run("book", *words, "--yes")
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    assert result.stderr.count("\n") <= 2
    assert "Traceback" not in result.stderr
    assert not network.heard


async def test_without_a_terminal_nothing_is_booked_unasked(run: Run, network: Network) -> None:
    await answer_everything(network)
    result = await run("book", "--model", "CPU", stdin="y\n")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert not network.heard


async def test_a_job_prints_its_lines_and_ends_as_it_ends(run: Run, network: Network, tmp_path: Path) -> None:
    await answer_everything(network)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("answer.txt", "42")
    content = made.getvalue()
    result = Artefact(digest=hashlib.sha256(content).hexdigest(), size=len(content))
    bucket: ObjectStore = await network.stream.object_store(bucket_of_partner(PARTNER))
    await bucket.put(result.digest, content)
    network.on(
        SubmitJob,
        lambda order: (
            told.accepted(order),
            told.log(order, 0, "\x1b[2Jone", "two"),
            told.finished(order, result=result),
        ),
    )
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "main.py").write_text("print(1)")
    words = ("run", "bkg_9", "--files", str(tmp_path / "job"), "--env", "REPEAT=2", "--out", str(tmp_path / "out"))
    shown = await run(*words, "--", "python", "main.py", "--fast")
    assert (shown.exit_code, shown.stdout) == (0, "[2Jone\ntwo\n")
    order = await network.told(SubmitJob)
    assert (order.entrypoint, order.environment) == (("python", "main.py", "--fast"), {"REPEAT": "2"})
    assert (tmp_path / "out" / "answer.txt").read_text() == "42"
    refused = await run(*words, "--", "python", "main.py")
    assert refused.exit_code == 2
    assert "not an empty directory" in refused.stderr
    words = (*words[:-1], str(tmp_path / "second"))
    lines = [json.loads(line) for line in (await run(*words, "--json", "--", "python", "main.py")).stdout.splitlines()]
    assert lines[:2] == [{"line": "\x1b[2Jone"}, {"line": "two"}]
    assert (lines[2]["job"]["state"], lines[2]["files"]) == ("succeeded", ["answer.txt"])


async def test_a_failed_job_ends_as_it_ended_and_a_refused_one_is_code_1(
    run: Run, network: Network, tmp_path: Path
) -> None:
    await answer_everything(network)
    (tmp_path / "main.py").write_text("print(1)")
    detail = "Job entrypoint command failed with exit code 3, last logs:\nline"
    network.on(SubmitJob, lambda order: (told.accepted(order), told.finished(order, "failed", detail=detail)))
    words = ("run", "bkg_9", "--files", str(tmp_path), "--", "python", "main.py")
    failed = await run(*words)
    assert failed.exit_code == 3
    assert "failed: Job entrypoint command failed with exit code 3" in failed.stderr
    network.on(SubmitJob, lambda order: (told.accepted(order), told.finished(order, "stopped")))
    assert (await run(*words)).exit_code == 1
    refusal = Refusal(reason=Reason.not_ready, detail="It is starting.")
    network.on(SubmitJob, lambda order: JobRefused(**told.ids(order), job_id=order.job_id, refusal=refusal))
    refused = await run(*words)
    assert (refused.exit_code, refused.stderr) == (1, "It is starting.\n")


async def test_an_unknown_booking_is_refused(run: Run, network: Network) -> None:
    unknown = RefusedReply(refusal=Refusal(reason=Reason.unknown_booking, detail="There is no booking bkg_0 of yours."))
    await network.answers(GetBooking, lambda query: unknown)
    for words in (("status", "bkg_0"), ("release", "bkg_0"), ("logs", "bkg_0", "job_1")):
        result = await run(*words)
        assert (result.exit_code, result.stderr) == (1, "There is no booking bkg_0 of yours.\n")


async def test_a_repeated_booking_id_waits_for_the_same_booking(run: Run, network: Network) -> None:
    await answer_everything(network)
    words = ("book", "--model", "CPU", "--hours", "1", "--booking-id", "bkg_mine", "--yes", "--json")
    again = await run(*words, "--nodes", "2")
    assert document(again)["state"] == "ready"
    other = await run(*words, "--nodes", "1")
    assert (other.exit_code, document(other)["error"]["reason"]) == (1, "id_reused")
    assert not [message for message in network.heard if isinstance(message, PlaceBooking)]


async def test_the_operators_commands(run: Run, network: Network) -> None:
    await answer_everything(network)
    assert document(await run("operator", "deposit", "acme", "12.50", "--json"))["amount"]["amount"] == 12_500_000
    assert (await run("operator", "deposit", "acme", "0")).exit_code == 2
    audited = await run("operator", "audit")
    assert audited.exit_code == 1
    assert "FAILED" in audited.stdout


async def test_a_node_is_named_by_its_name_or_the_beginning_of_its_id(run: Run, network: Network) -> None:
    await answer_everything(network)
    assert "No node is called 'rome'" in (await run("statement", "rome")).stderr
    assert "2 nodes" not in (await run("statement", "oslo")).stderr


async def test_a_new_key_is_private_and_shown_by_its_public_half(run: Run, tmp_path: Path) -> None:
    made = document(await run("keys", "new", str(tmp_path / "new.seed"), "--json"))
    assert made == {"public_key": public_key(read_seed(tmp_path / "new.seed"))}
    again = await run("keys", "new", str(tmp_path / "new.seed"))
    assert again.exit_code == 2
    assert "never overwritten" in again.stderr


async def test_json_that_is_printed_reads_back_as_the_contract(run: Run, network: Network) -> None:
    await answer_everything(network)
    printed = (await run("quote", "--model", "CPU", "--json")).stdout
    assert msgspec.json.decode(printed, type=type(told.QUOTE)) == told.QUOTE
