"""Starting, ending, crashing and starting again: one sentence where it cannot be, and nothing that is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command_line import Told, bivouac
from tests.e2e.up import ROOT, Up, left_behind, until

ORDINARY_USER = ("unshare", "--user", "--map-user=65534", "--map-group=65534")
"""An account without rights of its own that can still read what is ours: nothing has to be copied to be tried."""

Start = Callable[..., Up]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Up] = []

    def begin(data: Path, *flags: str, **more: Any) -> Up:
        started.append(Up(data, "--quiet", *flags, **more))
        return started[-1]

    yield begin
    for up in started:
        up.end()


def works(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def refused(data: Path, *flags: str, wrapper: Sequence[str] = ()) -> str:
    """The one sentence of an `up` that cannot be."""
    words = [*wrapper, sys.executable, "-m", "services", "up", "--data", str(data), "--nodes", "0", *flags]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended
    assert ended.stderr.startswith("bivouac: ") and ended.stderr.endswith(".\n") and ended.stderr.count("\n") == 1
    return ended.stderr


def ask(up: Up, *words: str) -> Told:
    return bivouac(["--profile", str(up.data / "profiles" / "acme.json"), *words], up.data.parent)


def wallet(up: Up) -> int:
    amount: int = ask(up, "balance", "--json").document["wallet"]["amount"]
    return amount


def nobody_left(up: Up, seconds: float = 0.0) -> None:
    until(lambda: not left_behind(up.data), f"{left_behind(up.data)} did not end", seconds)
    assert not (up.data / "network.json").exists() or seconds


def test_a_network_at_a_path_with_spaces_is_alone_there_and_ends_with_ctrl_c(start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "a path, with 'spaces'", "--nodes", "1", "--deposit", "7", "--json").ready()
    assert all(set(json.loads(line)) == {"network"} for line in up.said())
    state = up.state()
    assert set(state["nodes"]) == {"node-1"} and len(state["services"]) == 7

    sentence = refused(up.data)
    assert "in use" in sentence and str(up.process.pid) in sentence
    assert up.state() == state, "who is refused leaves what is there as it is"
    assert wallet(up) == 7_000_000

    assert len(left_behind(up.data)) > 10
    assert up.stop(signal.SIGINT) == 0
    assert "everything is stopped" in up.said()[-1]
    nobody_left(up)


def test_a_network_comes_back_after_every_kind_of_end(start: Start, tmp_path: Path) -> None:
    """Crashed services and servers are started again on their data; a killed network leaves nothing that lives on."""
    up = start(tmp_path / "data", "--nodes", "1", "--deposit", "7").ready()
    for part, name in (("services", "ledger"), ("services", "gate"), ("servers", "nats"), ("servers", "postgres")):
        before = up.state()[part][name]["pid"]
        os.kill(before, signal.SIGKILL)
        until(lambda p=part, n=name, b=before: up.state()[p][n]["pid"] not in (b, 0), f"{name} stayed away")  # type: ignore[misc]
        assert wallet(up) == 7_000_000
    os.kill(up.state()["nodes"]["node-1"]["pid"], signal.SIGKILL)
    until(lambda: not up.state()["nodes"], "the node is still told to be there")

    up.process.kill()
    assert up.ended() == -signal.SIGKILL
    nobody_left(up, seconds=30)

    up = start(tmp_path / "data", "--nodes", "0", "--deposit", "99").ready()
    assert wallet(up) == 7_000_000, "the opening deposit is made once"
    assert up.stop(signal.SIGTERM) == 0
    nobody_left(up)


def test_a_line_for_each_event_and_nobody_who_tells_on(start: Start, tmp_path: Path) -> None:
    """The lines come from a process of their own, which ends with the network, however that ends."""
    up = Up(tmp_path / "data", "--nodes", "1", "--json")
    try:
        up.ready()
        until(lambda: any('"type"' in line for line in up.said()), "no event was told", 60)
        told = [json.loads(line) for line in up.said()]
        assert all("network" in line or "type" in line for line in told)
        assert any("operator watch" in command for command in left_behind(up.data).values())
        up.process.kill()
        up.ended()
        nobody_left(up, seconds=30)
    finally:
        up.end()


@pytest.mark.parametrize("moment", ["at once", "when the servers are up"])
def test_a_start_that_is_broken_off_leaves_nothing(moment: str, start: Start, tmp_path: Path) -> None:
    up = start(tmp_path / "data", "--nodes", "1")
    if moment == "at once":
        until(lambda: bool(left_behind(up.data)) and (up.data / "lock").exists(), "it does not begin")
    else:
        up.until("PostgreSQL")
    assert up.stop(signal.SIGINT) == 0
    nobody_left(up)
    assert start(tmp_path / "data", "--nodes", "0").ready().stop() == 0


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null", "/etc/hostname/data"])
def test_a_place_that_is_no_directory_is_told_in_one_sentence(place: str) -> None:
    assert "choose another directory" in refused(Path(place))


def test_a_disk_without_room_is_told_in_one_sentence(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=64m none '{tmp_path}'"
    if not works("unshare", "--mount", "sh", "-c", mount):
        pytest.skip("a small disk can be mounted here by nobody")
    wrapper = ("unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh")
    sentence = refused(tmp_path / "data", wrapper=wrapper)
    assert "make room" in sentence and "63 MB" in sentence


class TestAsAnOrdinaryUser:
    @pytest.fixture(autouse=True)
    def _possible(self) -> None:
        if not works(*ORDINARY_USER, "true"):
            pytest.skip("nobody else can be made here: user namespaces are not allowed")

    def test_it_works(self, start: Start, tmp_path: Path) -> None:
        up = start(tmp_path / "data", "--nodes", "1", wrapper=ORDINARY_USER).ready()
        assert ask(up, "quote", "--model", "CPU", "--json").code == 0
        assert up.stop() == 0
        nobody_left(up)

    @pytest.mark.parametrize("closed", ["the directory", "the one above", "the keys", "the logs"])
    def test_a_directory_that_may_not_be_written_is_told_in_one_sentence(self, closed: str, tmp_path: Path) -> None:
        data = tmp_path / "data"
        for part in ("keys", "logs"):
            (data / part).mkdir(parents=True)
        within = {"the directory": data, "the one above": tmp_path}.get(closed, data / closed.removeprefix("the "))
        within.chmod(0o500)
        try:
            sentence = refused(data if closed != "the one above" else tmp_path / "other", wrapper=ORDINARY_USER)
        finally:
            within.chmod(0o700)
        assert "permission denied" in sentence and "mend its permissions" in sentence
        assert not left_behind(data)


def test_what_it_can_do_is_told() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "services", "up", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for word in ("--data", "--nodes", "--deposit", "--json", "--quiet", "Ctrl-C"):
        assert word in told.stdout, word


@pytest.mark.parametrize(
    "flags",
    [("--nodes", "-1"), ("--nodes", "many"), ("--deposit", "x"), ("--deposit", "-1"), ("--deposit", str(10**18))],
)
def test_a_number_that_makes_no_sense_is_refused_before_anything_starts(flags: tuple[str, ...], tmp_path: Path) -> None:
    words = [sys.executable, "-m", "services", "up", "--data", str(tmp_path / "data"), *flags]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"argument {flags[0]}: {flags[1]!r} is not a whole number from 0 to" in ended.stderr
    assert not (tmp_path / "data").exists()
