"""The demo, as a person runs it: every chapter is told, it ends well, and nothing of it is left running."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.up import ROOT, left_behind

SECONDS = 280
CHAPTERS = (
    "A network of its own starts",
    "acme asks for a price and books two nodes",
    "A real job",
    "is killed with SIGKILL",
    "The result comes back as a file",
    "The booking is released",
    "The epoch closes",
)
TOLD = ("cluster ready", "takes its place", "is in the cluster after", "SHA-256", "Audit passed", "RENDER")


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
def test_the_demo_is_told_to_its_end(tmp_path: Path) -> None:
    """With a smaller job than people see; the worker is killed in the middle of it all the same."""
    data = tmp_path / "demo data"
    ended = subprocess.run(
        [sys.executable, "examples/demo.py", "--data", str(data)],
        cwd=ROOT,
        env={**os.environ, "DEMO_REPEAT": "40"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    chapters = re.findall(r"^(\d+)\. (.*)$", ended.stdout, re.MULTILINE)
    assert [int(number) for number, _ in chapters] == list(range(1, len(CHAPTERS) + 1))
    for (_, title), expected in zip(chapters, CHAPTERS, strict=True):
        assert expected in title
    for words in TOLD:
        assert words in ended.stdout, words
    assert "Traceback" not in ended.stdout + ended.stderr
    assert not left_behind(data)


def test_the_demo_does_not_empty_a_directory_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    words = [sys.executable, "examples/demo.py", "--data", str(tmp_path)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2 and "choose another" in ended.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
