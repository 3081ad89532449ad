"""Random histories, with repeats and tampered repeats, against a plain model: every balance agrees after every step."""

import asyncio
from typing import ClassVar

import asyncpg
import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from libs.local.servers import LocalServers
from services.ledger.domain.rewards import rnp004
from services.ledger.settings import Settings
from tests.ledger.builders import (
    HOUR,
    T0,
    Desk,
    booking_ended,
    broken,
    deposit,
    escrow_for,
    failed,
    held,
    lease,
    lease_ended,
    node,
    passed,
    replaced,
    span,
)
from tests.ledger.model import Booking, Model
from wire.ledger import Deposit
from wire.message import Message
from wire.values import usd

PARTNERS, NAMES = st.sampled_from(["acme", "globex"]), st.sampled_from(["b1", "b2", "b3", "b4"])


class Story(RuleBasedStateMachine):
    """Leases of a booking run one after the other in their places, as the scheduler would have them."""

    own: ClassVar[Settings]
    admin: ClassVar[str]

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.runner.run(self._fresh_schema())
        self.desk = Desk(self.own.database_url, self.own)
        self.runner.run(self.desk.open())
        emission = self.own.emission(0)
        self.model = Model(
            self.own.render_usd_micros, emission.job, emission.availability, self.own.epoch_render_usd_micros
        )
        self.told: list[Message] = []
        for partner in ("acme", "globex"):
            self.pay_in(partner, f"first_{partner}", 2_500_000)
            self.hold(partner, "b1", 2, 370_139)

    async def _fresh_schema(self) -> None:
        connection = await asyncpg.connect(self.admin)
        await connection.execute("DROP SCHEMA ledger CASCADE; CREATE SCHEMA ledger AUTHORIZATION ledger")
        await connection.close()

    def tell(self, message: Message) -> None:
        self.told.append(message)
        self.runner.run(self.desk.hand_in(message))

    @rule(partner=PARTNERS, reference=st.sampled_from("abcdefgh"), amount=st.sampled_from([0, 1, 400_000, 3_000_000]))
    def pay_in(self, partner: str, reference: str, amount: int) -> None:
        self.model.deposit(partner, reference, amount)
        self.tell(deposit(amount, reference, partner))

    @rule(partner=PARTNERS, name=NAMES, nodes=st.integers(1, 3), hourly=st.sampled_from([1, 370_139, 999_999]))
    def hold(self, partner: str, name: str, nodes: int, hourly: int) -> None:
        known = self.model.bookings.get((partner, name))
        if known is not None:
            nodes, hourly = known.nodes, known.hourly
        self.model.hold(partner, name, Booking(nodes, hourly, escrow_for(nodes, HOUR, hourly)))
        leases = tuple(lease(number, hourly) for number in range(nodes))
        escrow = usd(escrow_for(nodes, HOUR, hourly))
        self.tell(held(partner=partner, booking=name, leases=leases, escrow=escrow))

    @precondition(lambda self: any(not booking.ended for booking in self.model.bookings.values()))
    @rule(data=st.data(), ms=st.integers(0, HOUR // 4), started=st.booleans())
    def end_lease(self, data: st.DataObject, ms: int, started: bool) -> None:
        (partner, name), booking = self._running(data)
        number = data.draw(st.integers(0, 3 * booking.nodes - 1))
        if number in booking.ran:
            return
        booking.ran[number] = (T0, T0 + ms) if started else (0, 0)
        self.model.settle(partner, booking)
        self.tell(lease_ended(span(number, *booking.ran[number], booking.hourly), booking=name, partner=partner))

    @precondition(lambda self: any(not booking.ended for booking in self.model.bookings.values()))
    @rule(data=st.data(), gap_ms=st.integers(1, 100_000))
    def fill_gap(self, data: st.DataObject, gap_ms: int) -> None:
        (partner, name), booking = self._running(data)
        number = data.draw(st.integers(booking.nodes, 3 * booking.nodes))
        if number in booking.gaps or gap_ms * booking.hourly < HOUR:
            return
        booking.gaps[number] = gap_ms
        self.model.settle(partner, booking)
        message = replaced(number, gap_ms, booking=name, partner=partner)
        self.tell(msgspec.structs.replace(message, lease=lease(number, booking.hourly)))

    @precondition(lambda self: any(not booking.ended for booking in self.model.bookings.values()))
    @rule(data=st.data(), more=st.booleans())
    def end_booking(self, data: st.DataObject, more: bool) -> None:
        (partner, name), booking = self._running(data)
        if more:
            for number in range(booking.nodes):
                booking.ran.setdefault(number, (T0, T0 + HOUR // 5))
        booking.ended = True
        self.model.settle(partner, booking)
        spans = [span(number, *times, booking.hourly) for number, times in booking.ran.items()]
        self.tell(booking_ended(spans, booking=name, partner=partner))

    @rule(number=st.integers(0, 5), probe=st.sampled_from("pqrst"), gflops=st.integers(0, 90_000), good=st.booleans())
    def test_node(self, number: int, probe: str, gflops: int, good: bool) -> None:
        message = passed(number, probe, gflops) if good else failed(number, probe)
        weight = rnp004.weight(message.readings) if good else 0  # type: ignore[union-attr]
        self.model.tests.setdefault((number, probe), (self.model.epoch, weight))
        self.tell(message)

    @rule()
    def close_epoch(self) -> None:
        self.runner.run(self.desk.close_epoch())
        self.model.close_epoch()

    @precondition(lambda self: self.told)
    @rule(data=st.data(), tampered=st.booleans())
    def say_again(self, data: st.DataObject, tampered: bool) -> None:
        """Nothing moves, whatever is said again, and whatever somebody made of it."""
        message = data.draw(st.sampled_from(self.told))
        if tampered and isinstance(message, Deposit) and message.reference in self.model.payments:
            other = data.draw(st.sampled_from([0, 7, 3_000_001]))
            message = deposit(other, message.reference, message.partner)
        if isinstance(message, Deposit) and message.reference not in self.model.payments:
            return
        self.runner.run(self.desk.hand_in(message))

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "desk"):
            return
        real = {name: amount for name, amount in self.runner.run(self.desk.balances()).items() if amount}
        model = self.model
        expected = {f"wallet:{partner}": amount for partner, amount in model.wallets.items()}
        expected |= {f"escrow:{partner}/{name}": one.left for (partner, name), one in model.bookings.items()}
        expected |= {f"coupon:{node(number)}/{epoch}": amount for (epoch, number), amount in model.coupons.items()}
        expected |= {f"pay:{node(number)}": amount for number, amount in model.pay.items()}
        expected |= {"fee": model.fee, "usd_market": model.market, "burned": model.burned}
        expected |= {"reserve:availability": model.reserve, "render_market": -model.burned}
        expected |= {"bank": -sum(amount for _, amount in model.payments.values())}
        expected |= {"coupon_mint": -model.market, "render_mint": -sum(model.pay.values()) - model.reserve}
        assert real == {name: amount for name, amount in expected.items() if amount}

    def teardown(self) -> None:
        if hasattr(self, "desk"):
            report = self.runner.run(self.desk.audit())
            self.runner.run(self.desk.close())
            self.runner.close()
            assert not broken(report), report

    def _running(self, data: st.DataObject) -> tuple[tuple[str, str], Booking]:
        running = [key for key, booking in self.model.bookings.items() if not booking.ended]
        key = data.draw(st.sampled_from(sorted(running)))
        return key, self.model.bookings[key]


def test_random_histories_agree_with_the_model(settings_of_ledger: Settings, servers: LocalServers) -> None:
    Story.own, Story.admin = settings_of_ledger, servers.addresses.postgres_admin
    run_state_machine_as_test(
        Story,
        settings=settings(
            max_examples=20,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        ),
    )
