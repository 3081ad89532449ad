"""The sync face does what the async client does, from a thread without a loop."""

import asyncio
from pathlib import Path

import pytest

from bivouac import Refused, Unreachable, sync
from bivouac.keys import new_seed
from tests.sdk import told
from tests.sdk.conftest import PARTNER, Network, Server
from wire.booking import BookingPlaced, BookingSettled, ClusterReady, PlaceBooking, ReleaseBooking
from wire.job import SubmitJob
from wire.ledger import Balance, GetBalance, GetReceipt
from wire.quote import GetQuote
from wire.quote import Refused as RefusedReply
from wire.values import Reason, Refusal, usd


async def test_a_booking_and_a_job_without_a_loop(nats_server: Server, network: Network, tmp_path: Path) -> None:
    network.on(PlaceBooking, told.ready)
    network.on(ReleaseBooking, told.settled)
    network.on(SubmitJob, lambda order: (told.accepted(order), told.log(order, 0, "a", "b"), told.finished(order)))
    await network.answers(GetReceipt, told.receipt)
    await network.answers(GetBalance, lambda query: Balance(wallet=usd(7), in_escrow=usd(0)))
    no = RefusedReply(refusal=Refusal(reason=Reason.unknown_model, nearest="CPU"))
    await network.answers(GetQuote, lambda query: no)
    (tmp_path / "main.py").write_text("print(1)")

    def story() -> None:
        with sync.Client(nats_server.url, identity=PARTNER, seed=new_seed()) as client:
            assert client.balance().wallet == usd(7)
            with pytest.raises(Refused):
                client.quote(told.REQUEST)
            with client.book(told.REQUEST, max_total="1") as booking:
                job = booking.run(["true"], files=tmp_path)
                assert list(job.logs()) == ["a", "b"]
                assert job.finished().state == "succeeded"
            kinds = [type(event) for event in booking.events()]
            assert [kinds[0], kinds[1], kinds[-1]] == [BookingPlaced, ClusterReady, BookingSettled]
            assert client.receipt(booking.booking_id).cost == told.USE.cost

    await asyncio.to_thread(story)


async def test_no_network_leaves_no_thread_behind() -> None:
    import threading

    def connect() -> None:
        with pytest.raises(Unreachable):
            sync.Client("nats://127.0.0.1:1", identity=PARTNER, seed=new_seed())

    await asyncio.to_thread(connect)
    assert not [thread for thread in threading.enumerate() if thread.name == "bivouac"]
