"""What an outsider cannot do although he may ask: NATS checks no reply subject, so the border has to hold."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from libs import nkey
from libs.objects import bucket
from tests.gate.town import Town, Visitor
from wire import border
from wire.ledger import Deposit, EpochClosed, GetStatement
from wire.message import Malformed, decode
from wire.names import (
    NODE_COMMANDS_STREAM,
    bucket_of_node,
    bucket_stream,
    inbox_prefix,
    node_consumer,
)
from wire.node import Heartbeat, NodeJoined, StopRayNode
from wire.probe import Probe
from wire.streams import SERVICE_COMMANDS

VICTIM = "VICTIM"


async def _victim(inside: JetStreamContext) -> None:
    await inside.add_stream(name=VICTIM, subjects=["victim"])
    await inside.publish("victim", b"precious")


async def _messages(inside: JetStreamContext, stream: str) -> int:
    return (await inside.stream_info(stream)).state.messages


def _requests(node_id: str) -> dict[str, tuple[str, bytes]]:
    """Everything a node may ask that makes the server itself publish something on the reply subject."""
    place = {"stream": NODE_COMMANDS_STREAM, "consumer": node_consumer(node_id)}
    stream, api = bucket_stream(bucket_of_node(node_id)), border.API_OUTSIDE
    return {
        "an empty pull": (f"{api}.{border.PULL.format(**place)}", b'{"batch":1,"no_wait":true}'),
        "a pull that runs out": (f"{api}.{border.PULL.format(**place)}", b'{"batch":1,"expires":200000000}'),
        "a double ack": (border.ACK.format(**place).replace(">", "1.1.1.1.0"), b"+ACK"),
        "a pull by ack": (border.ACK.format(**place).replace(">", "1.1.1.1.0"), b'+NXT {"batch":1,"no_wait":true}'),
        "a stored event": (NodeJoined.pattern(node_id=node_id), b"{}"),
        "a stored chunk": (border.CHUNK.format(bucket=bucket_of_node(node_id)).replace("*", "n"), b""),
        "a read": (f"{api}.{border.GET.format(stream=stream)}", b'{"seq":1}'),
        "a look": (f"{api}.{border.INFO.format(stream=stream)}", b""),
        "a look at itself": (f"{api}.{border.CONSUMER_INFO.format(**place)}", b""),
    }


async def _node(town: Town, inside: JetStreamContext) -> tuple[str, Visitor]:
    key = nkey.new()
    await bucket(inside, bucket_of_node(key.public_key))
    return key.public_key, await town.visit(key)


async def _ask(client: Client, request: tuple[str, bytes], reply: str, pause: float = 0.25) -> None:
    await client.publish(*request, reply=reply)
    await client.flush()
    await asyncio.sleep(pause)


@pytest.mark.parametrize("call", ["STREAM.DELETE", "STREAM.PURGE"])
async def test_an_answer_to_the_api_of_jetstream_deletes_nothing(open_town: Town, call: str) -> None:
    client = await open_town.inside()
    inside = client.jetstream()
    node_id, node = await _node(open_town, inside)
    await _victim(inside)
    try:
        for name, request in _requests(node_id).items():
            for api in (border.API, border.API_OUTSIDE):
                await _ask(node.client, request, f"{api}.{call}.{VICTIM}")
                assert await _messages(inside, VICTIM) == 1, name
        assert node.complaints == [] and not node.closed.is_set()
    finally:
        await inside.delete_stream(VICTIM)


async def test_the_same_without_the_border_deletes_all(open_town: Town) -> None:
    """So that this test can fail: an ordinary client of the network's own account does with one empty pull."""
    client = await open_town.inside()
    inside = client.jetstream()
    node_id, _ = await _node(open_town, inside)
    await _victim(inside)
    subject, body = _requests(node_id)["an empty pull"]
    await _ask(client, (subject.replace(border.API_OUTSIDE, border.API), body), f"{border.API}.STREAM.DELETE.{VICTIM}")
    assert VICTIM not in [stream.config.name for stream in await client.jsm().streams_info()]


async def test_no_answer_reaches_the_network_in_anothers_name(open_town: Town) -> None:
    client = await open_town.inside()
    inside = client.jetstream()
    node_id, node = await _node(open_town, inside)
    other = nkey.new().public_key
    chunk = border.CHUNK.format(bucket=bucket_of_node(node_id)).replace("*", "n")
    await node.client.publish(chunk, b'{"type":"Deposit","id":"x","operator":"ops","partner":"acme"}')
    arrived: list[str] = []
    stored = await _messages(inside, SERVICE_COMMANDS.name)

    async def note(message: Msg) -> None:
        arrived.append(message.subject)

    targets = [
        NodeJoined.pattern(node_id=other),
        Heartbeat.pattern(node_id=other),
        StopRayNode.pattern(node_id=other),
        Deposit.pattern(operator="ops"),
        GetStatement.pattern(identity=other),
        border.META.format(bucket=bucket_of_node(other)).replace("*", "n"),
        f"{inbox_prefix('ledger')}.x",
    ]
    for subject in targets:
        await client.subscribe(subject, cb=note)
    await client.flush()
    for request in _requests(node_id).values():
        for subject in targets:
            await _ask(node.client, request, subject, pause=0.02)
    await asyncio.sleep(0.3)
    assert arrived == []
    assert await _messages(inside, SERVICE_COMMANDS.name) == stored


async def test_what_reaches_another_outsider_is_no_message(open_town: Town) -> None:
    """The server's answers do reach whoever listens outside, and there nothing but the body tells them from a probe."""
    inside = (await open_town.inside()).jetstream()
    node_id, node = await _node(open_town, inside)
    other, victim = await _node(open_town, inside)
    probed = Probe.pattern(node_id=other)
    arrived: list[Msg] = []

    async def note(message: Msg) -> None:
        arrived.append(message)

    await victim.client.subscribe(probed, cb=note)
    await victim.client.flush()
    for request in _requests(node_id).values():
        await _ask(node.client, request, probed)
    assert arrived
    for message in arrived:
        with pytest.raises(Malformed):
            decode(Probe, message.subject, message.data)


async def test_an_acknowledgement_cannot_be_aimed_at_another(open_town: Town) -> None:
    inside = (await open_town.inside()).jetstream()
    node_id, node = await _node(open_town, inside)
    other, _ = await _node(open_town, inside)
    await inside.publish(StopRayNode.pattern(node_id=other), b"for the other")
    ack = border.ACK.format(stream=NODE_COMMANDS_STREAM, consumer=node_consumer(other)).replace(">", "1.1.1.1.0")
    for request in _requests(node_id).values():
        await _ask(node.client, request, ack)
    assert not await node.may_publish(ack, b"+ACK")
    assert (await inside.consumer_info(NODE_COMMANDS_STREAM, node_consumer(other))).num_pending == 1


async def test_a_listener_cannot_acknowledge_in_the_streams_name(open_town: Town) -> None:
    """Who hears a stored event sees where its publisher waits for the stream's word."""
    inside = (await open_town.inside()).jetstream()
    _, node = await _node(open_town, inside)

    async def forge(message: Msg) -> None:
        await node.client.publish(message.reply, b'{"stream":"FORGED","seq":1}')

    await node.client.subscribe(EpochClosed.pattern(), cb=forge)
    await node.client.flush()
    for _ in range(20):
        ack = await inside.publish(EpochClosed.pattern().replace("*", "1"), b"{}")
        assert ack.stream != "FORGED"
