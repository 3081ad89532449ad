"""Who and where: flags before the environment before the profile, keys that only their owner reads."""

import json
import stat
from pathlib import Path

import pytest

from bivouac.errors import Invalid
from bivouac.keys import new_seed, public_key, read_seed, write_seed
from bivouac.profile import OPERATOR_PROFILES, load


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "profiles").mkdir()
    for name in ("acme", "operator"):
        told = {"url": f"nats://{name}", "identity": name, "role": "partner", "key_file": f"../keys/{name}.seed"}
        (tmp_path / "profiles" / f"{name}.json").write_text(json.dumps({**told, "added_later": 1}))
    return tmp_path


def test_the_default_profile_is_acme_and_the_operators_is_operator(home: Path) -> None:
    assert load(environ={}, home=home).identity == "acme"
    assert load(environ={}, home=home, defaults=OPERATOR_PROFILES).identity == "operator"
    (home / "profile.json").write_text(json.dumps({"url": "nats://mine", "identity": "me", "key_file": "k"}))
    mine = load(environ={}, home=home)
    assert (mine.identity, Path(mine.key_file)) == ("me", home / "k")


def test_flags_go_before_the_environment_and_that_before_the_profile(home: Path) -> None:
    environ = {"BIVOUAC_URL": "nats://environ", "BIVOUAC_IDENTITY": "environ"}
    found = load(url="nats://flag", environ=environ, home=home)
    assert (found.url, found.identity) == ("nats://flag", "environ")
    assert Path(found.key_file).resolve() == home / "keys" / "acme.seed"


def test_a_profile_is_named_by_its_name_or_its_path(home: Path) -> None:
    assert load(profile="operator", environ={}, home=home).identity == "operator"
    assert load(profile=str(home / "profiles" / "operator.json"), environ={}, home=home).identity == "operator"
    assert load(environ={"BIVOUAC_PROFILE": "operator"}, home=home).identity == "operator"
    with pytest.raises(Invalid, match="no profile 'nobody'"):
        load(profile="nobody", environ={}, home=home)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="which url"):
        load(environ={}, home=tmp_path)
    with pytest.raises(Invalid, match="which key"):
        load(url="nats://x", identity="a", environ={}, home=tmp_path)
    (tmp_path / "profile.json").write_text("{")
    with pytest.raises(Invalid, match="cannot be read"):
        load(environ={}, home=tmp_path)


def test_a_key_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    path, seed = tmp_path / "deep" / "me.seed", new_seed()
    write_seed(path, seed)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_seed(path) == seed
    assert public_key(seed).startswith("U")
    with pytest.raises(Invalid, match="never overwritten"):
        write_seed(path, new_seed())
    assert read_seed(path) == seed


@pytest.mark.parametrize("letters", ["", "SU", "hello", "SUA" + "A" * 55, "\x00", "ü" * 58])
def test_what_is_no_key_is_refused(tmp_path: Path, letters: str) -> None:
    (tmp_path / "k").write_text(letters)
    with pytest.raises(Invalid):
        read_seed(tmp_path / "k")


def test_one_wrong_letter_is_noticed() -> None:
    seed = new_seed()
    wrong = seed[:20] + ("A" if seed[20] != "A" else "B") + seed[21:]
    with pytest.raises(Invalid):
        public_key(wrong)
