"""Each story in tests/stories/*.txt is told by the real command line to a real network and must sound as it is written.

A line `$ bivouac …` is a command; what follows it, up to the next one, is all that it prints, and `[exit 2]` where it
fails. Lines that begin with `#` are the story's own. In a command, a placeholder such as <key> stands for what was last
shown in its place. STORIES=write writes down what is told now: read the difference before you keep it.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.e2e.command_line import bivouac
from tests.e2e.network import LiveNetwork

STORIES = sorted(Path(__file__).parent.glob("*.txt"))

VARIES: tuple[tuple[str, str], ...] = (
    (r"bkg_[0-9a-z]{20,}", "<booking>"),
    (r"q_[0-9a-z]{26}", "<quote>"),
    (r"pay_[0-9a-z]{20,}", "<payment>"),
    (r"U[A-Z2-7]{55}", "<key>"),
    (r"U[A-Z2-7]{5}…[A-Z2-7]{4}", "<key…>"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "<time>"),
    (r"[0-9a-f]{16}…", "<digest>"),
    (r"nats://127\.0\.0\.1:\d+", "<url>"),
    (r"\bnode-\d\b", "<node>"),
    (r"(?<=passed: )[\d,]+(?= transfers)", "<count>"),
    (r"(free|leased)( +)\d\.\d{3}\b", r"\1\2<trust>"),
)
"""What is another at every telling, with what stands for it; nodes are listed by their ids, hence in any order."""


def stable(told: str, home: Path) -> str:
    """What is told, without what varies and without the blanks that fill a line."""
    told = told.replace(str(home), "~")
    for pattern, placeholder in VARIES:
        told = re.sub(pattern, placeholder, told)
    return "\n".join(line.rstrip() for line in told.splitlines())


def remember(told: str, shown: dict[str, str]) -> None:
    for pattern, placeholder in VARIES:
        for found in re.finditer(pattern, told):
            shown[placeholder] = found[0]


def tell(story: str, network: LiveNetwork, place: Path) -> str:
    """The story as it is told now."""
    lines: list[str] = []
    shown: dict[str, str] = {}
    for line in story.splitlines():
        if line.startswith("#"):
            lines += [*([""] if lines else []), line]
        elif line.startswith("$ "):
            words = shlex.split(line.removeprefix("$ "))
            assert words[0] == "bivouac", f"A story is told in `bivouac` alone: {line}"
            told = bivouac([shown.get(word, word) for word in words[1:]], network.home, place, together=True)
            remember(told.out, shown)
            ending = f"\n[exit {told.code}]" if told.code else ""
            lines += ["", line, *(stable(told.out, network.home) + ending).strip("\n").splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


@pytest.mark.parametrize("file", STORIES, ids=lambda file: file.stem)
def test_the_story_is_told_as_it_is_written(file: Path, live_network: LiveNetwork, tmp_path: Path) -> None:
    written = file.read_text()
    told = tell(written, live_network, tmp_path)
    if os.environ.get("STORIES") == "write":
        file.write_text(told)
    else:
        assert told.splitlines() == written.splitlines(), "told otherwise; STORIES=write writes it down"


def test_there_are_stories() -> None:
    assert STORIES
