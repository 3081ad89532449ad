"""The pure parts of the bus: ids, keys, what a subject means, and when to give up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import TimeoutError as NatsTimeoutError

from libs import ids, nats_keys, nkey
from libs.bus.inbox import cause_of, key_of
from libs.bus.reading import Inbound, Reader, TurnedAway, place_of
from libs.bus.retries import BUG_ATTEMPTS, NETWORK_ATTEMPTS, Failures, retry_delay
from libs.bus.rows import Rows
from libs.bus.serve import filters
from libs.nats_keys import Kind
from libs.settings import BusSettings, SettingsError, load
from tests.bus import tally
from tests.bus.tally import Add, Added, Copied, Copy
from wire.message import encode

ROOT = Path(__file__).parent.parent.parent
TOKEN = st.text("abc_-", min_size=1, max_size=4)
IDS = st.text("abc1/._-", min_size=1, max_size=12)


def raw(subject: str, body: bytes, sequence: int = 7, delivered: int = 1) -> Any:
    reply = f"$JS.ACK.CMD.counter.{delivered}.{sequence}.9.1700000000000000000.0"
    return SimpleNamespace(subject=subject, data=body, reply=reply, headers=None)


@given(TOKEN, TOKEN, IDS, IDS)
def test_ids_of_two_senders_never_meet(one: str, other: str, first: str, second: str) -> None:
    """What a sender may choose is its id; what it may not choose is its subject."""
    if one != other:
        assert key_of(f"cmd.booking.{one}.b.place", first) != key_of(f"cmd.booking.{other}.b.place", second)
        causes = {
            cause_of(f"cmd.booking.{sender}.b.place", message_id).split("/")[0]
            for sender, message_id in ((one, first), (other, second))
        }
        assert causes == {one, other}


@given(TOKEN, IDS)
def test_a_cause_names_its_sender_once(sender: str, message_id: str) -> None:
    subject = f"evt.booking.{sender}.b.placed"
    cause = cause_of(subject, message_id)
    assert cause_of(subject, cause) == cause


def test_a_partners_command_cannot_pass_for_a_services_event() -> None:
    assert key_of("cmd.booking.acme.b.place", "1/placed") != key_of("evt.booking.acme.b.placed", "1/placed")


def test_what_is_said_gets_ids_that_a_rerun_repeats() -> None:
    def say() -> list[str]:
        rows = Rows(None, 5, "a/1")  # type: ignore[arg-type]
        rows.say(Added(who="a", n=1), Added(who="a", n=2), Copied(who="a", n=3))
        rows.say(Added(who="a", n=4, id="own", at=3), Added(who="a", n=5))
        assert [message.at for message in rows.said] == [5, 5, 5, 3, 5]
        return [message.id for message in rows.said]

    assert say() == say() == ["a/1/added", "a/1/added.2", "a/1/copied", "own", "a/1/added.3"]


@given(st.integers(1, 100), st.booleans())
def test_pauses_grow_and_end(failures: int, network: bool) -> None:
    error: Exception = NatsTimeoutError() if network else AssertionError()
    delay, following = retry_delay(failures, error), retry_delay(failures + 1, error)
    if failures >= (NETWORK_ATTEMPTS if network else BUG_ATTEMPTS):
        assert delay is None
    else:
        assert delay is not None
        assert 0 < delay <= 30
        assert following is None or following >= delay


def test_failures_are_forgotten_with_the_message_and_bounded() -> None:
    failures = Failures()
    for sequence in range(10_050):
        failures.count(raw("s", b"", sequence))
    assert not failures.suspect(raw("s", b"", 3))
    assert failures.suspect(raw("s", b"", 10_000))
    assert failures.count(raw("s", b"", 10_000)) == 2
    failures.forget(raw("s", b"", 10_000))
    assert failures.count(raw("s", b"", 10_000)) == 1


@given(st.integers(1, 10**6), st.integers(1, 10**12))
def test_a_place_is_read_with_and_without_a_domain(delivered: int, sequence: int) -> None:
    rest = f"CMD.counter.{delivered}.{sequence}.9.1700000000000000000.0"
    for reply in (f"$JS.ACK.{rest}", f"$JS.ACK.hub.ABCDEF.{rest}.x1y2"):
        assert place_of(SimpleNamespace(reply=reply)) == ("CMD", sequence, delivered)  # type: ignore[arg-type]


@given(st.binary(max_size=200))
def test_no_body_breaks_the_reader(body: bytes) -> None:
    read = Reader([Add, Copy]).read(raw(Add.pattern(who="a"), body))
    assert isinstance(read, Inbound | TurnedAway)


@given(st.text(max_size=30))
def test_no_subject_breaks_the_reader(subject: str) -> None:
    assert isinstance(Reader([Add, Copy]).read(raw(subject, b"{}")), TurnedAway)


def test_a_message_is_read_by_its_subject() -> None:
    order = Add(who="a", n=1, id="1", at=1)
    read = Reader([Add, Copy]).read(raw(order.subject(), encode(order)))
    assert isinstance(read, Inbound)
    assert (read.kind, read.message, read.cause) == (Add, order, "a/1")
    other = Reader([Add]).read(raw(order.subject(), encode(order).replace(b'"Add"', b'"Sub"')))
    assert isinstance(other, TurnedAway)
    assert (other.reason, other.message_id) == ("unknown_type", "1")


def test_filters_follow_from_the_tables() -> None:
    assert filters(tally.service()) == {"CMD": ["cmd.job.>", "cmd.operator.*.add"]}
    assert filters(tally.service(handles={Added: tally.add}, effects={})) == {"EVT": ["evt.tally.*.added"]}


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://x\n")
    found = load(
        BusSettings,
        environ={"BIVOUAC_NATS_URL": "nats://a", "BIVOUAC_DATABASE_URL_FILE": str(secret), "BIVOUAC_INBOX": "off"},
    )
    assert (found.nats_url, found.database_url, found.inbox, found.group_size) == (
        "nats://a",
        "postgresql://x",
        False,
        256,
    )


@pytest.mark.parametrize(
    ("environ", "word"),
    [
        ({}, "BIVOUAC_NATS_URL is not set"),
        ({"NATS_URL": "a", "DATABASE_URL": "b", "GROUP_SIZE": "many"}, "group_size"),
        ({"NATS_URL": "a", "DATABASE_URL": "b", "GROUP_SIZE": "0"}, "group_size"),
        ({"NATS_URL": "a", "DATABASE_URL_FILE": "/nowhere/at/all"}, "cannot be read"),
    ],
)
def test_wrong_settings_are_said_in_a_sentence(environ: dict[str, str], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        load(BusSettings, environ={f"BIVOUAC_{name}": value for name, value in environ.items()})


@given(st.integers(0, 2**48 - 2), st.integers(0, 2**80 - 1), st.integers(0, 2**80 - 1))
def test_ids_sort_as_their_times(now: int, one: int, other: int) -> None:
    assert ids.ulid(now, one) < ids.ulid(now + 1, other)
    assert len(ids.ulid(now, one)) == 26


def test_a_seed_file_is_private_and_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "one.seed"
    made = nkey.make(path)
    assert (path.stat().st_mode & 0o777, nkey.make(path), made.seed in repr(made)) == (0o600, made, False)
    assert nats_keys.verified(made.public_key, Kind.USER, b"x", made.sign(b"x"))
    assert not nats_keys.verified(made.public_key, Kind.USER, b"y", made.sign(b"x"))
    assert not nats_keys.verified(made.public_key[:-1] + "A", Kind.USER, b"x", made.sign(b"x"))
    path.chmod(0o644)
    with pytest.raises(nkey.NkeyError, match="chmod 600"):
        nkey.load(path)


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("libs.bus", ["nats", "msgspec", "faststream", "asyncpg"]),
        ("libs.bus.ask", ["faststream", "asyncpg", "opentelemetry", "uvloop", "pydantic"]),
        ("libs.bus.service", ["nats", "faststream", "asyncpg", "opentelemetry"]),
        ("libs.bus.serve", ["opentelemetry.sdk", "redis"]),
        ("libs.nkey", ["nats", "asyncpg"]),
    ],
)
def test_light_modules_stay_light(module: str, heavy: list[str]) -> None:
    code = f"import json, sys, {module}; print(json.dumps([m for m in sys.argv[1:] if m in sys.modules]))"
    run = subprocess.run([sys.executable, "-c", code, *heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []
