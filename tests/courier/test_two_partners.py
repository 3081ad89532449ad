"""Ids are chosen by partners: two who choose the same ones must not meet at the courier."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.courier.test_courier import NODE, OTHER_NODE, PARTNER, Courier, courier, exited, say_lines, stored
from wire.booking import BookingEnded
from wire.job import Artefact, JobAccepted, JobFilesDelivered, JobLog, JobResultDelivered
from wire.names import bucket_of_node, bucket_of_partner

__all__ = ["courier"]
RIVAL = "rival"


def accepted(partner: str, node_id: str, files: Artefact) -> JobAccepted:
    return JobAccepted(partner=partner, booking_id="bkg_1", job_id="job_1", node_id=node_id, files=files)


async def test_each_gets_what_is_his(courier: Courier, tmp_path: Path) -> None:
    async with courier() as running:
        heard: dict[str, list[str]] = {PARTNER: [], RIVAL: []}

        async def hear(message: Any) -> None:
            heard[message.subject.split(".")[2]] += json.loads(message.data)["lines"]

        await running.client.subscribe(JobLog.pattern(), cb=hear)
        for partner, node_id in ((RIVAL, OTHER_NODE), (PARTNER, NODE)):
            files = await stored(running, bucket_of_partner(partner), partner.encode(), tmp_path)
            await running.publish(accepted(partner, node_id, files))
            await running.heard(JobFilesDelivered, partner=partner, node_id=node_id)
        await asyncio.sleep(0.1)
        await say_lines(running, NODE, "bkg_1", "job_1", 1)
        await say_lines(running, OTHER_NODE, "bkg_1", "job_1", 2)
        await asyncio.sleep(0.5)
        assert heard == {PARTNER: ["line 0"], RIVAL: ["line 0", "line 1"]}

        await running.publish(BookingEnded(partner=RIVAL, booking_id="bkg_1", reason="released", spans=()))
        await asyncio.sleep(0.3)
        right = await stored(running, bucket_of_node(NODE), b"right", tmp_path)
        late = await stored(running, bucket_of_node(OTHER_NODE), b"late", tmp_path)
        await running.publish(exited("job_1", late, OTHER_NODE))
        await running.publish(exited("job_1", right, NODE))
        assert (await running.heard(JobResultDelivered)).result == right
        assert [event.partner for event in running.all_heard(JobResultDelivered)] == [PARTNER]
