"""Directories as zip files and back: the same files make the same bytes, and a hostile zip writes nowhere else."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from bivouac.errors import BivouacError, Damaged, Invalid
from wire.job import ARTEFACT_BYTES_MAX, Artefact

UNPACKED_BYTES_MAX = 1 << 30
FILES_MAX = 10_000
_NAME_BYTES_MAX = 1024
_CHUNK = 1 << 16
_LEFT_OUT = frozenset({".git", "__pycache__", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"})
# What zipfile raises on hostile bytes, beside its own error.
_UNSOUND = (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, ValueError)
_MADE_AT = (1980, 1, 1, 0, 0, 0)  # the zip format's zero: when a file was touched is no part of what it is


def pack(directory: Path, into: Path) -> Artefact:
    """Zips `directory` into the file `into`; names, bytes and execute bits decide the digest and nothing else."""
    if not directory.is_dir():
        raise Invalid(f"{directory} is not a directory: name the one that holds the job's files.")
    names = _names(directory)
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in names:
            _add(archive, directory, name)
            if into.stat().st_size > ARTEFACT_BYTES_MAX:
                break
    size = into.stat().st_size
    if size > ARTEFACT_BYTES_MAX:
        raise Invalid(
            f"The files in {directory} are more than {ARTEFACT_BYTES_MAX >> 20} MiB when zipped: "
            "leave out what the job does not need."
        )
    return Artefact(digest=digest(into), size=size)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, into: Path, *, bytes_max: int = UNPACKED_BYTES_MAX) -> list[Path]:
    """Unzips into `into`, which must be absent or empty; all or nothing. Returns the files, relative to it.

    Names that leave the directory, links, devices, duplicates and anything beyond the bounds are refused; sizes
    are counted while reading, because the sizes a zip declares are its sender's claim.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise Invalid(f"{into} is not an empty directory: name a new one, so that nothing is overwritten.")
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=into.parent))
    except OSError as error:
        raise _no_room(into, error) from error
    try:
        try:
            with zipfile.ZipFile(archive) as opened:
                names = _checked(opened)
                _extract(opened, names, workplace, bytes_max)
        except _UNSOUND as error:
            raise Damaged(f"The file is not a sound zip: {error}.") from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # offsets before the file's own beginning; the rest is this disk's trouble
                raise _no_room(into, error) from error
            raise Damaged("The file is not a sound zip: it points outside itself.") from error
        if into.exists():
            into.rmdir()
        workplace.chmod(0o755)
        workplace.rename(into)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return [Path(*PurePosixPath(info.filename).parts) for info in names if not info.is_dir()]


def _no_room(into: Path, error: OSError) -> BivouacError:
    reason = (error.strerror or str(error)).lower()
    return BivouacError(f"{into} cannot be written ({reason}): make room, or name another directory.")


def _names(directory: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(directory):
        folders[:] = [folder for folder in folders if folder not in _LEFT_OUT]
        for entry in (*folders, *files):
            path = Path(place, entry)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise Invalid(f"{path} is a link or a device: put the file itself into {directory}.")
        found += [Path(place, file).relative_to(directory).as_posix() for file in files if not file.endswith(".pyc")]
        if len(found) > FILES_MAX:
            raise Invalid(f"{directory} holds more than {FILES_MAX:,} files: leave out what the job does not need.")
    if not found:
        raise Invalid(f"{directory} is empty: name the directory that holds the job's files.")
    try:
        return sorted(found, key=lambda name: name.encode())
    except UnicodeEncodeError as error:
        raise Invalid(f"A file name in {directory} is not UTF-8: rename it.") from error


def _add(archive: zipfile.ZipFile, directory: Path, name: str) -> None:
    source = directory / name
    entry = zipfile.ZipInfo(name, _MADE_AT)
    entry.create_system = 3  # Unix, on whatever system it is made
    entry.compress_type = zipfile.ZIP_DEFLATED
    executable = source.stat().st_mode & stat.S_IXUSR
    entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    with source.open("rb") as file, archive.open(entry, "w") as target:
        shutil.copyfileobj(file, target, _CHUNK)


def _checked(opened: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    entries = opened.infolist()
    if len(entries) > FILES_MAX:
        raise Damaged(f"The zip holds {len(entries):,} files; at most {FILES_MAX:,} are unpacked.")
    seen: set[str] = set()
    for entry in entries:
        name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
        parts = PurePosixPath(name).parts
        outside = not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]
        if outside or len(name.encode()) > _NAME_BYTES_MAX or any(character < " " for character in name):
            raise Damaged(f"The zip names a file outside its directory: {name[:80]!r}.")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Damaged(f"The zip packs {name[:80]!r} in a way that is not read here: use stored or deflate.")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise Damaged(f"The zip holds a link or a device: {name[:80]!r}.")
        plain = "/".join(parts)
        if plain in seen:
            raise Damaged(f"The zip names a file twice: {name[:80]!r}.")
        seen.add(plain)
    return entries


def _extract(opened: zipfile.ZipFile, entries: list[zipfile.ZipInfo], into: Path, bytes_max: int) -> None:
    left = bytes_max
    for entry in entries:
        target = into.joinpath(*PurePosixPath(entry.filename).parts)
        try:
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise Damaged(f"The zip names a file as a directory too: {entry.filename[:80]!r}.") from error
        with file, opened.open(entry) as source:
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise Damaged(f"The zip unpacks to more than {bytes_max:,} bytes; nothing was kept.")
                file.write(chunk)
        if (entry.external_attr >> 16) & stat.S_IXUSR:
            target.chmod(0o755)
