"""Who one is and where the network is: from flags, the environment, or a profile file, in this order."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from bivouac.errors import Invalid
from bivouac.keys import read_seed

HOME = Path("~/.bivouac")
DEFAULT_PROFILES = ("profile.json", "profiles/acme.json")
OPERATOR_PROFILES = ("profiles/operator.json", "profile.json")


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """One identity on one network; `key_file` is relative to the profile's own directory."""

    url: str = ""
    identity: str = ""
    role: str = "partner"
    key_file: str = ""

    def seed(self) -> str:
        return read_seed(Path(self.key_file))


def load(
    *,
    profile: str = "",
    url: str = "",
    identity: str = "",
    key: str = "",
    environ: Mapping[str, str] = os.environ,
    defaults: tuple[str, ...] = DEFAULT_PROFILES,
    home: Path = HOME,
) -> Profile:
    """The profile with everything it needs; raises Invalid with what is missing."""
    url = url or environ.get("BIVOUAC_URL", "")
    identity = identity or environ.get("BIVOUAC_IDENTITY", "")
    key = key or environ.get("BIVOUAC_KEY", "")
    home = home.expanduser()
    base = Profile()
    if profile or not (url and identity and key):
        base = _chosen(profile or environ.get("BIVOUAC_PROFILE", ""), home, defaults)
    found = Profile(
        url=url or base.url, identity=identity or base.identity, role=base.role, key_file=key or base.key_file
    )
    for name, value in (("url", found.url), ("identity", found.identity), ("key", found.key_file)):
        if not value:
            raise Invalid(
                f"It is not said which {name} to use: give --{name}, set BIVOUAC_{name.upper()}, "
                "or name a profile with --profile (`bivouac up` writes some)."
            )
    return found


def _chosen(named: str, home: Path, defaults: tuple[str, ...]) -> Profile:
    if named:
        by_name = home / "profiles" / f"{named}.json"
        path = Path(named).expanduser()
        if not path.is_file():
            path = by_name
        if not path.is_file():
            raise Invalid(f"There is no profile {named!r}: neither a file of that name nor {by_name}.")
        return _read(path)
    for default in defaults:
        if (home / default).is_file():
            return _read(home / default)
    return Profile()


def _read(path: Path) -> Profile:
    try:
        profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    except (OSError, msgspec.MsgspecError) as error:
        raise Invalid(f"The profile {path} cannot be read: {error}.") from error
    key_file = str(path.parent / Path(profile.key_file).expanduser()) if profile.key_file else ""
    return msgspec.structs.replace(profile, key_file=key_file)
