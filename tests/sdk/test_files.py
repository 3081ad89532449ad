"""Zips: the same files make the same bytes, and a hostile zip leaves nothing anywhere."""

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bivouac.errors import Damaged, Invalid
from bivouac.files import digest, pack, unpack

NAMES = st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6}){0,2}\.txt", fullmatch=True)


def lay_out(directory: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


@settings(max_examples=40, deadline=None)
@given(contents=st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=8), seed=st.randoms())
def test_the_same_files_make_the_same_digest_and_come_back_whole(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], seed: object
) -> None:
    place = tmp_path_factory.mktemp("zips")
    shuffled = list(contents.items())
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    first = pack(lay_out(place / "one", contents), place / "1.zip")
    second_directory = lay_out(place / "two", dict(shuffled))
    for path in second_directory.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    second = pack(second_directory, place / "2.zip")
    assert first == second
    assert first.digest == digest(place / "1.zip")
    assert sorted(str(path) for path in unpack(place / "1.zip", place / "out")) == sorted(contents)
    assert {name: (place / "out" / name).read_bytes() for name in contents} == contents


def test_a_changed_byte_or_execute_bit_changes_the_digest(tmp_path: Path) -> None:
    directory = lay_out(tmp_path / "job", {"main.py": b"print(1)"})
    before = pack(directory, tmp_path / "a.zip")
    (directory / "main.py").chmod(0o755)
    executable = pack(directory, tmp_path / "b.zip")
    (directory / "main.py").write_bytes(b"print(2)")
    assert len({before.digest, executable.digest, pack(directory, tmp_path / "c.zip").digest}) == 3
    unpack(tmp_path / "b.zip", tmp_path / "out")
    assert (tmp_path / "out" / "main.py").stat().st_mode & stat.S_IXUSR


def test_caches_and_repositories_are_left_out(tmp_path: Path) -> None:
    contents = {"a.py": b"1", ".git/config": b"secret", "__pycache__/a.cpython-311.pyc": b"x", "b.pyc": b"y"}
    pack(lay_out(tmp_path / "job", contents), tmp_path / "a.zip")
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() == ["a.py"]


def test_links_are_not_followed_out_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("key")
    directory = lay_out(tmp_path / "job", {"a.py": b"1"})
    (directory / "key").symlink_to(tmp_path / "secret")
    with pytest.raises(Invalid, match="link"):
        pack(directory, tmp_path / "a.zip")


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_what_is_no_directory_of_files_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "job"
    if kind == "file":
        place.write_text("x")
    elif kind == "empty":
        place.mkdir()
    with pytest.raises(Invalid):
        pack(place, tmp_path / "a.zip")


def hostile(entries: dict[str, bytes], modes: dict[str, int] | None = None) -> io.BytesIO:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, content)
    return made


HOSTILE = {
    "climbs out": hostile({"../evil": b"x"}),
    "climbs out in the middle": hostile({"a/../../evil": b"x"}),
    "absolute": hostile({"/tmp/evil": b"x"}),
    "drive": hostile({"C:/evil": b"x"}),
    "backslashes": hostile({"..\\evil": b"x"}),
    "link": hostile({"link": b"/etc", "link/passwd": b"x"}, {"link": stat.S_IFLNK | 0o777}),
    "device": hostile({"null": b""}, {"null": stat.S_IFCHR | 0o666}),
    "file as directory": hostile({"a": b"x", "a/b": b"y"}),
    "same file in other words": hostile({"a/b": b"x", "a//b": b"y", "a/./b": b"z"}),
    "control characters": hostile({"a\x1b[2J": b"x"}),
    "bomb": hostile({"zeros": b"\0" * 3_000_000}),
    "bomb in pieces": hostile({f"zeros{index}": b"\0" * 300_000 for index in range(10)}),
    "too many files": hostile({f"file{index}": b"" for index in range(10_001)}),
    "not a zip": io.BytesIO(b"PK\x03\x04 nothing of the kind"),
    "nothing": io.BytesIO(b""),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_zip_writes_nothing(tmp_path: Path, what: str) -> None:
    archive = tmp_path / "hostile.zip"
    archive.write_bytes(HOSTILE[what].getvalue())
    with pytest.raises(Damaged):
        unpack(archive, tmp_path / "deep" / "out", bytes_max=2_000_000)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {archive}
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_lying_header_does_not_hide_a_bomb(tmp_path: Path) -> None:
    """The sizes in a zip are its sender's claim; here it claims ten bytes for three million."""
    made = bytearray(HOSTILE["bomb"].getvalue())
    honest = (3_000_000).to_bytes(4, "little")
    assert honest in made
    (tmp_path / "lies.zip").write_bytes(bytes(made).replace(honest, (10).to_bytes(4, "little")))
    with pytest.raises(Damaged):
        unpack(tmp_path / "lies.zip", tmp_path / "out", bytes_max=2_000_000)
    assert not (tmp_path / "out").exists()


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_flipped_byte_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    place = tmp_path_factory.mktemp("flips")
    made = bytearray(hostile({"a.txt": b"hello" * 100, "b/c.txt": b"world" * 100}).getvalue())
    made[position % len(made)] = value
    (place / "a.zip").write_bytes(made)
    try:
        found = unpack(place / "a.zip", place / "out")
    except Damaged:
        assert not (place / "out").exists()
    else:
        assert all((place / "out" / name).resolve().is_relative_to(place / "out") for name in found)


def test_what_lies_in_the_target_is_never_overwritten(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(hostile({"a.txt": b"new"}).getvalue())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    with pytest.raises(Invalid, match="not an empty directory"):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "old"
