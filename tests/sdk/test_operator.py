"""The operator's commands wait for their own answer and for no other."""

import asyncio
from typing import Any

import pytest

from bivouac import Operator, Refused
from tests.sdk import told
from tests.sdk.conftest import Network
from tests.sdk.samples import sample
from wire.access import MessageRefused, PartnerRefused, PartnerRegistered, RegisterPartner
from wire.booking import BookingSettled
from wire.ledger import CloseEpoch, Deposit, DepositBooked, EpochClosed, EpochRefused
from wire.message import Message
from wire.values import Reason, Refusal, usd

NO = Refusal(reason=Reason.already_registered, detail="The name has another key.", nearest="Choose another name.")


async def test_a_partner_is_registered_or_refused(operator: Operator, network: Network) -> None:
    def register(order: RegisterPartner) -> Message:
        if order.partner == "taken":
            return PartnerRefused(partner=order.partner, refusal=NO)
        return PartnerRegistered(partner=order.partner, public_key=order.public_key)

    network.on(RegisterPartner, register)
    assert (await operator.register_partner("acme", told.HEAD)).public_key == told.HEAD
    with pytest.raises(Refused) as caught:
        await operator.register_partner("taken", told.HEAD)
    assert caught.value.nearest == "Choose another name."


async def test_a_deposit_waits_for_its_own_reference(operator: Operator, network: Network) -> None:
    def book(order: Deposit) -> tuple[Message, ...]:
        booked: dict[str, Any] = {"partner": order.partner, "amount": order.amount, "wallet": usd(1)}
        return DepositBooked(**booked, reference="another"), DepositBooked(**booked, reference=order.reference)

    network.on(Deposit, book)
    assert (await operator.deposit("acme", "12.50", "inv-7")).reference == "inv-7"


async def test_a_refused_message_raises(operator: Operator, network: Network) -> None:
    def refuse(order: Deposit) -> MessageRefused:
        refusal = Refusal(reason=Reason.id_reused, detail="That payment was 5.00 USD.")
        return MessageRefused(identity="operator", subject_refused="x", message_id=order.id, refusal=refusal)

    network.on(Deposit, refuse)
    with pytest.raises(Refused, match="That payment"):
        await operator.deposit("acme", "12.50", "inv-7")


async def test_the_refusal_of_another_message_is_none_of_ours(operator: Operator, network: Network) -> None:
    def refuse_another_and_book(order: Deposit) -> tuple[Message, ...]:
        foreign = MessageRefused(identity="operator", subject_refused="x", message_id="msg_other", refusal=NO)
        booked = DepositBooked(partner="acme", amount=order.amount, wallet=usd(1), reference=order.reference)
        return foreign, booked

    network.on(Deposit, refuse_another_and_book)
    assert (await operator.deposit("acme", "1")).amount == usd(10**6)


async def test_an_epoch_is_closed_or_refused(operator: Operator, network: Network) -> None:
    network.on(CloseEpoch, lambda order: sample(EpochClosed))
    assert isinstance(await operator.close_epoch(), EpochClosed)
    network.on(CloseEpoch, lambda order: EpochRefused(epoch=3, refusal=NO))
    with pytest.raises(Refused):
        await operator.close_epoch()


async def test_watching_hears_every_event_in_order(operator: Operator, network: Network) -> None:
    said = [sample(BookingSettled), sample(EpochClosed), sample(PartnerRegistered)]
    heard: list[Message] = []

    async def watch() -> None:
        async for message in operator.watch():
            heard.append(message)
            if len(heard) == len(said):
                return

    watching = asyncio.create_task(watch())
    while not operator.connection._listenings:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await network.say(*said)
    await asyncio.wait_for(watching, 10)
    assert heard == said
