"""The contracts: rendered files are current, a contract only grows, and the services' tables are the catalogue's."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from wire.catalog import CATALOG, SERVICES, message_on
from wire.message import Message, Query, Telemetry
from wire.streams import stream_of

ROOT = Path(__file__).parent.parent.parent
SCHEMAS = ROOT / "proto" / "schema"


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_rendered_files_are_current() -> None:
    check = subprocess.run(
        [sys.executable, "scripts/contracts.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert check.returncode == 0, check.stderr


def breaches(old: dict[str, Any], new: dict[str, Any], where: str) -> Iterable[str]:
    """What a reader or a writer of `old` could no longer rely on in `new`."""
    for name, was in old.get("$defs", {}).items():
        now = new.get("$defs", {}).get(name)
        if now is None:
            yield f"{where}: {name} is gone"
            continue
        for field in was.get("properties", {}):
            if field not in now.get("properties", {}):
                yield f"{where}: {name}.{field} is gone"
            elif kinds(was["properties"][field]) - kinds(now["properties"][field]):
                yield f"{where}: {name}.{field} has another type"
        for field in set(now.get("required", [])) - set(was.get("required", [])):
            yield f"{where}: {name}.{field} has become required"
        for word in set(was.get("enum", [])) - set(now.get("enum", [])):
            yield f"{where}: {name} has lost the word {word}"


def kinds(field: dict[str, Any]) -> set[str]:
    options = field.get("anyOf", [field])
    return {str(option.get("type") or option.get("$ref") or option.get("const") or "any") for option in options}


def test_a_contract_only_grows() -> None:
    committed = git("ls-tree", "-r", "--name-only", "HEAD", "proto/schema").split()
    found = []
    for name in committed:
        if not (ROOT / name).exists():
            found.append(f"{name} is gone")
            continue
        found += breaches(json.loads(git("show", f"HEAD:{name}")), json.loads((ROOT / name).read_text()), name)
    assert not found


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        (lambda s: s["$defs"]["GetQuote"]["properties"].pop("partner"), "GetQuote.partner is gone"),
        (lambda s: s["$defs"]["GetQuote"]["required"].append("at"), "GetQuote.at has become required"),
        (lambda s: s["$defs"]["BandwidthTier"]["enum"].remove("ultra"), "BandwidthTier has lost the word ultra"),
        (lambda s: s["$defs"].pop("ClusterRequest"), "ClusterRequest is gone"),
        (lambda s: s["$defs"]["GetQuote"]["properties"].update(at={"type": "string"}), "GetQuote.at has another type"),
    ],
)
def test_each_breach_is_seen(change: Any, breach: str) -> None:
    text = (SCHEMAS / "GetQuote.json").read_text()
    broken = json.loads(text)
    change(broken)
    assert [found for found in breaches(json.loads(text), broken, "x") if found.endswith(breach)]


def test_every_message_has_one_subject_and_a_stream_if_it_is_stored() -> None:
    for entry in CATALOG:
        sample = entry.message.SUBJECT.replace("{", "").replace("}", "")
        assert message_on(sample) is entry.message
        if not issubclass(entry.message, Query | Telemetry):
            assert stream_of(sample)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_hears_and_answers_what_the_catalogue_says(service: str) -> None:
    handlers = importlib.import_module(f"services.{service}.handlers")
    tables: set[type[Message]] = set()
    for table in ("HANDLES", "ANSWERS", "EFFECTS", "HEARS"):
        tables |= set(getattr(handlers, table, {}))
    heard = {entry.message for entry in CATALOG if service in entry.heard_by}
    unheard_telemetry = {message for message in heard - tables if issubclass(message, Telemetry)}
    assert tables | unheard_telemetry == heard
