"""Settings: one frozen Struct per process, read from the environment once; what is wrong is said in one sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

T = TypeVar("T", bound=msgspec.Struct)

_SWITCHES = {"on": "true", "yes": "true", "off": "false", "no": "false"}


class SettingsError(SystemExit):
    """A setting is missing or makes no sense; the text says which and how to mend it, and is all that is printed."""


class BusSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service needs to be on the bus; a service's own settings inherit from it."""

    nats_url: str
    nats_seed_file: str = ""
    """A file with the nkey seed of this identity; empty: no authentication."""
    database_url: str
    valkey_url: str = ""
    data_directory: str = ""
    group_size: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 256
    """At most so many messages share a transaction."""
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    store_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """The file store the streams share; 0: what the server says it has."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    inbox: bool = True
    """Off only to show that a drill fails without it."""
    log_level: str = "info"
    ready_file: str = ""
    """A file that is touched every 5 s while the service serves, for health checks; empty: none."""


def load(kind: type[T], prefix: str = "BIVOUAC_", environ: Mapping[str, str] = os.environ) -> T:
    """Read a Struct: field `nats_url` from BIVOUAC_NATS_URL, or from the file that BIVOUAC_NATS_URL_FILE names."""
    found: dict[str, str] = {}
    for field in msgspec.structs.fields(kind):
        name = prefix + field.name.upper()
        if name in environ:
            found[field.name] = _switch(environ[name]) if field.type is bool else environ[name]
        elif name + "_FILE" in environ:
            found[field.name] = _content(name + "_FILE", environ[name + "_FILE"])
        elif field.required:
            raise SettingsError(f"{name} is not set: {kind.__name__} needs it.")
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"A setting {prefix}… makes no sense: {error}.") from None


def _switch(word: str) -> str:
    return _SWITCHES.get(word.lower(), word)


def _content(name: str, path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError as error:
        raise SettingsError(f"{name} names {path}, which cannot be read ({error.strerror}).") from None
