"""Every event of the catalogue has a sentence of its own, and nobody's words steer a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bivouac.narrate import line
from bivouac.render import terminal_safe
from tests.sdk.samples import sample
from wire.catalog import CATALOG
from wire.job import JobLog
from wire.message import Event, Message

EVENTS = [entry.message for entry in CATALOG if issubclass(entry.message, Event)]


@pytest.mark.parametrize("kind", [*EVENTS, JobLog], ids=lambda kind: kind.__name__)
def test_every_event_is_told_in_words(kind: type[Message]) -> None:
    message = sample(kind)
    told = line(message)
    assert told != message.subject()
    assert "\n" not in told
    assert not told.startswith(message.subject()) or "refused" in message.verb()


@given(st.text())
def test_text_keeps_its_words_and_loses_what_steers(text: str) -> None:
    safe = terminal_safe(text)
    assert not any(character < " " and character not in "\t\n\x1b" for character in safe)
    assert [c for c in safe if c.isalnum()] == [c for c in text if c.isalnum()]


@pytest.mark.parametrize(
    ("hostile", "safe"),
    [
        ("\x1b[2J\x1b[Hgone", "[2J[Hgone"),
        ("\x1b]0;title\x07x", "]0;titlex"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("a\rb\x9b2Jc", "ab2Jc"),
    ],
)
def test_colours_pass_and_cursors_do_not(hostile: str, safe: str) -> None:
    assert terminal_safe(hostile) == safe
