"""Customers: they book, run a job, check its answer, release, and take every refusal and silence as it comes."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections import Counter
from pathlib import Path

from bivouac.booking import Booking
from bivouac.client import Client, cluster
from bivouac.errors import BivouacError, JobFailed, Refused
from tests.drills.light_ray import ANSWER, QUESTION, answer_to
from tests.drills.network import NODES
from wire.values import CPU_MODEL, Reason

_SECOND_THOUGHT_SECONDS = (0.3, 1.0)
_READY_SECONDS, _RESULT_SECONDS, _SETTLED_SECONDS = 40.0, 30.0, 60.0


class Customer:
    """One customer of a partner, one booking after the other."""

    def __init__(self, name: str, client: Client, work: Path, chance: random.Random) -> None:
        self.name, self.client, self._work, self._chance = name, client, work, chance
        self.stored: list[str] = []
        """Bookings of which the stream said that it has the order."""
        self.wrong: list[str] = []
        """What should not have happened, whatever was killed."""
        self.outcomes: Counter[str] = Counter()
        self._number = 0
        self._left: list[str] = []

    async def shop(self, until: float) -> None:
        """Until that moment of the monotonic clock; what is in hand then is left as it is."""
        while time.monotonic() < until:
            self._number += 1
            try:
                await self._book(f"{self.name}_{self._number}")
                if len(self._left) > 1:
                    await self._release(self._left.pop(0))
            except BivouacError as error:
                self.outcomes[str(error.reason) if isinstance(error, Refused) else _kind_of(error)] += 1
                await asyncio.sleep(self._chance.uniform(*_SECOND_THOUGHT_SECONDS))

    async def finish(self, seconds: float) -> None:
        """Release whatever of one's own is not over, and wait for the receipts; asks again until the time is over."""
        deadline = time.monotonic() + seconds
        for booking_id in self.stored:
            while (trouble := await self._trouble_with(booking_id)) is not None:
                if time.monotonic() > deadline:
                    self.wrong.append(f"{booking_id} is not over: {trouble}")
                    break
                await asyncio.sleep(0.2)

    async def _trouble_with(self, booking_id: str) -> str | None:
        """Why a booking cannot be seen to be over; refused is over too."""
        try:
            await self._release(booking_id)
        except Refused as refused:
            return refused.detail if refused.reason is Reason.unknown_booking else None
        except BivouacError as error:
            return str(error)
        return None

    async def _release(self, booking_id: str) -> None:
        """As somebody does who comes back later and knows nothing but the id."""
        booking = await self.client.booking(booking_id)
        try:
            if not booking.view.over:
                await booking.release(_SETTLED_SECONDS)
        finally:
            await booking.close()

    async def _book(self, booking_id: str) -> None:
        chance = self._chance
        nodes = NODES + 1 if chance.random() < 0.03 else chance.choice((1, 1, 2, 2, 3))
        request = cluster(nodes, CPU_MODEL, "0.5")
        budget = "0.001" if chance.random() < 0.05 else "100"
        quote_id = (await self.client.quote(request)).quote_id if chance.random() < 0.3 else None
        booking = await self.client.book(request, max_total=budget, booking_id=booking_id, quote_id=quote_id)
        self.stored.append(booking_id)
        try:
            if chance.random() < 0.15:  # says the same again, as somebody does who is not sure to have been heard
                await (
                    await self.client.book(request, max_total=budget, booking_id=booking_id, quote_id=quote_id)
                ).close()
            await booking.ready(_READY_SECONDS)
            self.outcomes["ready"] += 1
            if chance.random() < 0.6:
                await self._run(booking, booking_id)
            if chance.random() < 0.9:
                await booking.release(_SETTLED_SECONDS)
                self.outcomes["settled"] += 1
            else:
                self._left.append(booking_id)
        finally:
            await booking.close()

    async def _run(self, booking: Booking, name: str) -> None:
        files, result = self._work / name / "files", self._work / name / "result"
        files.mkdir(parents=True)
        question = self._chance.randbytes(16)
        (files / QUESTION).write_bytes(question)
        try:
            job = await booking.run(["answer"], files=files)
            await job.result(result, timeout=_RESULT_SECONDS)
            self.outcomes["job done"] += 1
            if (result / ANSWER).read_bytes() != answer_to(question):
                self.wrong.append(f"the job of {name} gave another's answer")
        except JobFailed:
            self.outcomes["job failed"] += 1
        finally:
            shutil.rmtree(files.parent)


def _kind_of(error: BivouacError) -> str:
    """Its sentence without the names in it, so that the same ones can be counted."""
    return " ".join(word for word in str(error).split() if "_" not in word)[:90]
