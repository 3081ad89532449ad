"""Reading a message: what no receiver could keep is refused where it is read, in commands, events and queries alike."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.access import BanIdentity
from wire.job import NodeJobLog
from wire.message import Malformed, decode, encode
from wire.values import Reason

KEY = "U" + "A" * 55
# Backslashes and the letters of an escape are what could be mistaken for one.
words = st.text(st.sampled_from(["\\", "u", "0", "\0", '"', "x", "\u2028"]), max_size=24)


def ban(evidence: str) -> BanIdentity:
    return BanIdentity(id="m", operator="operator", public_key=KEY, reason=Reason.not_allowed, evidence=evidence)


@given(evidence=words)
def test_a_null_character_and_nothing_like_it_is_refused(evidence: str) -> None:
    said = ban(evidence)
    if "\0" in evidence:
        with pytest.raises(Malformed, match=r"U\+0000"):
            decode(BanIdentity, said.subject(), encode(said))
    else:
        assert decode(BanIdentity, said.subject(), encode(said)) == said


def test_a_null_character_hides_in_no_field() -> None:
    for body in (b'{"a\\u0000": 1}', b'{"a": [{"b": "\\\\\\u0000"}]}'):
        whole = encode(ban(""))[:-1] + b"," + body[1:]
        assert msgspec.json.decode(whole)
        with pytest.raises(Malformed):
            decode(BanIdentity, ban("").subject(), whole)


def test_a_line_of_a_log_may_hold_what_a_job_printed() -> None:
    lines = NodeJobLog(id="m", node_id=KEY, booking_id="b", job_id="j", sequence=0, lines=("a\0b",))
    assert decode(NodeJobLog, lines.subject(), encode(lines)) == lines
