"""Provisioning for containers: once and for all, closed to strangers, mendable, and what the real servers take."""

import subprocess
from pathlib import Path

import pytest

from libs.local.errors import LocalError
from libs.local.nats import binary
from services import provision
from services.__main__ import main, parser


def provisioned(out: Path, *words: str) -> Path:
    provision.run(parser().parse_args(["provision", "--out", str(out), *words]))
    return out


def contents(out: Path) -> dict[str, str]:
    return {str(path.relative_to(out)): path.read_text() for path in out.rglob("*") if path.is_file()}


def test_the_server_takes_the_configuration(tmp_path: Path) -> None:
    out = provisioned(tmp_path / "network")
    check = subprocess.run([binary(), "-t", "-c", out / "nats" / "nats.conf"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr


def test_strangers_see_nothing(tmp_path: Path) -> None:
    out = provisioned(tmp_path / "network")
    assert out.stat().st_mode & 0o077 == 0
    for path in out.rglob("*"):
        if path.is_file() and path.parent.name not in provision.SERVERS:
            assert path.stat().st_mode & 0o077 == 0, path


def test_what_is_lost_comes_back_as_it_was(tmp_path: Path) -> None:
    out = provisioned(tmp_path / "network")
    before = contents(out)
    for name in ("services/gate/issuer_seed", "postgres/schemas.sql", "profiles/acme.json"):
        (out / name).unlink()
    (out / "valkey" / "password").chmod(0o600)
    provisioned(out)
    assert contents(out) == before
    assert (out / "valkey" / "password").stat().st_mode & 0o777 == 0o444


def test_two_networks_share_no_secret(tmp_path: Path) -> None:
    one, other = contents(provisioned(tmp_path / "one")), contents(provisioned(tmp_path / "other"))
    assert one.keys() == other.keys()
    secret = [name for name in one if "seed" in name or "password" in name or name.endswith("database_url")]
    assert len(secret) > 20
    assert not [name for name in secret if one[name] == other[name]]


def test_the_room_for_streams_is_chosen_once(tmp_path: Path) -> None:
    out = provisioned(tmp_path / "network", "--store-gb", "7")
    conf = (out / "nats" / "nats.conf").read_text()
    assert f'"max_file_store": {7 << 30}' in conf
    provisioned(out)
    assert (out / "nats" / "nats.conf").read_text() == conf
    provisioned(out, "--store-gb", "9")
    assert f'"max_file_store": {9 << 30}' in (out / "nats" / "nats.conf").read_text()


def test_the_places_alone(tmp_path: Path) -> None:
    out = provisioned(tmp_path / "network", "--places")
    assert not contents(out)
    assert {str(path.relative_to(out)) for path in out.rglob("*") if path.is_dir()} >= set(provision.places())


def test_addresses_are_what_was_said(tmp_path: Path) -> None:
    words = ("--nats-url", "nats://bus:4333", "--postgres", "db:6000", "--valkey", "cache:7000")
    out = provisioned(tmp_path / "network", *words)
    ledger = out / "services" / "ledger"
    assert (ledger / "nats_url").read_text() == "nats://bus:4333"
    assert (ledger / "database_url").read_text().endswith("@db:6000/bivouac")
    assert (ledger / "valkey_url").read_text().endswith("@cache:7000/0")
    assert '"port": 4333' in (out / "nats" / "nats.conf").read_text()
    assert "port 7000\n" in (out / "valkey" / "valkey.conf").read_text()


@pytest.mark.parametrize("address", ["cache", ":1", "cache:0", "cache:70000", "cache:x"])
def test_a_wrong_address_is_named(tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["provision", "--out", str(tmp_path), "--valkey", address])
    assert address in capsys.readouterr().err


def test_a_place_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="file"):
        provisioned(tmp_path / "file" / "network")
    monkeypatch.setattr("sys.argv", ["services", "provision", "--out", str(tmp_path / "file" / "network")])
    assert main() == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
