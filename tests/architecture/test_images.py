"""The Dockerfile's targets install what their commands import, run as nobody in particular, and copy what exists."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from importlib.metadata import requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.imported import of_tree, third_parties
from wire.catalog import SERVICES

ROOT = Path(__file__).parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
USER = ("10001", "bivouac")
CODE_OF = {
    "service": (*SERVICES, "bivouac"),
    "node-agent": ("node_agent",),
    "node-agent-cuda": ("node_agent",),
}
# libs.process asks psutil about children that it started; a service starts none.
NEVER_REACHED = {"service": {"psutil"}}
packages_distributions = cache(metadata.packages_distributions)


def stages() -> dict[str, list[str]]:
    """The instructions of each stage, with continued lines made one and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            current = found.setdefault(match[2], list(found.get(match[1], [])))
        elif line.strip() and found:
            current.append(line)
    return found


STAGES = stages()


def modules(target: str) -> Iterator[str]:
    """All code that a target is there to run: some of it is started as a program, and imported by nothing."""
    if target == "service":
        yield "services.__main__"
    for name in CODE_OF[target]:
        folder = ROOT / ("sdk" if name == "bivouac" else "services") / name
        for path in folder.rglob("*.py"):
            yield ".".join(path.relative_to(folder.parent if name == "bivouac" else ROOT).with_suffix("").parts)


def asked(target: str, extras: dict[str, list[str]]) -> list[Requirement]:
    """What the target installs by name."""
    lines = [line for line in STAGES[target] if "pip install" in line and "./sdk" in line]
    assert len(lines) == 1 and "--constraint constraints.txt" in lines[0]
    named = re.search(r"'\.\[([a-z,]+)\]'", lines[0])
    assert named is not None
    sdk = tomllib.loads((ROOT / "sdk/pyproject.toml").read_text())["project"]["dependencies"]
    own = [*sdk, *project()["dependencies"], *(word for extra in named[1].split(",") for word in extras[extra])]
    return [Requirement(word) for word in own if not word.startswith("bivouac")]


def brought(requirements: list[Requirement]) -> set[str]:
    """These, and all that they bring with them."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(requirements)
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        found.add(canonicalize_name(one.name))
        for word in requires(one.name) or ():
            more = Requirement(word)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in {"", *one.extras}):
                waiting.append(more)
    return found


def project() -> dict[str, list[str]]:
    found: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def missing(target: str, extras: dict[str, list[str]]) -> set[str]:
    """What the target's code imports and the target does not install."""
    wanted = asked(target, extras)
    by_name = {canonicalize_name(requirement.name) for requirement in wanted}
    ours = set(third_parties(*modules(target))) - NEVER_REACHED.get(target, set())
    found = {top for top in ours if not by_name & distributions(top)}
    if target != "service":  # it runs the customers' jobs too, which may use whatever is there
        found |= {top for top in of_jobs() if not brought(wanted) & distributions(top)}
    return found


def of_jobs() -> set[str]:
    paths = (ROOT / "examples").glob("*/*.py")
    tops = {name.partition(".")[0] for path in paths for name in of_tree(ast.parse(path.read_text()))}
    return tops & set(packages_distributions())


def distributions(top: str) -> set[str]:
    """Those that bring the package of that name."""
    return {canonicalize_name(name) for name in packages_distributions().get(top, [top])}


def every_extra() -> dict[str, list[str]]:
    found = project()["optional-dependencies"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("target", CODE_OF)
def test_a_target_installs_what_its_code_imports(target: str) -> None:
    assert not missing(target, every_extra())


@pytest.mark.parametrize(
    ("target", "requirement", "name"),
    [("service", "redis", "redis"), ("node-agent", "ray[data,default]", "ray"), ("node-agent-cuda", "torch", "torch")],
)
def test_a_requirement_that_is_missing_is_seen(target: str, requirement: str, name: str) -> None:
    extras = {extra: [word for word in words if word != requirement] for extra, words in every_extra().items()}
    assert name in missing(target, extras)


@pytest.mark.parametrize("target", CODE_OF)
def test_a_target_is_nobody_in_particular(target: str) -> None:
    number, name = USER
    assert [line for line in STAGES[target] if line.startswith("USER ")][-1] == f"USER {name}"
    assert any(f"useradd --uid {number} " in line and line.endswith(f" {name}") for line in STAGES[target])
    assert not any(line.startswith("USER ") for line in STAGES["base"])


def test_the_targets_of_compose_exist() -> None:
    services = COMPOSE["services"].values()
    built = {service["image"]: service["build"]["target"] for service in services if "build" in service}
    assert set(built.values()) <= set(CODE_OF)
    for service in services:
        if service["image"] in built:
            assert service["user"] == f"{USER[0]}:{USER[0]}"


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    copied = {
        source
        for lines in STAGES.values()
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    }
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert any(Path(source).is_relative_to(path) for path in allowed), source


def test_entry_points_are_programs() -> None:
    assert 'ENTRYPOINT ["python", "-m"]' in STAGES["service"]
    for target in ("node-agent", "node-agent-cuda"):
        assert 'ENTRYPOINT ["python", "-m", "services.node_agent"]' in STAGES[target]
        assert any(line.startswith("HEALTHCHECK ") and "/tmp/ready" in line for line in STAGES[target])
        assert any("BIVOUAC_READY_FILE=/tmp/ready" in line for line in STAGES[target])
    assert (ROOT / "services/node_agent/__main__.py").exists()


def test_the_base_is_pinned_and_may_be_another() -> None:
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm$", (ROOT / "Dockerfile").read_text(), re.M)
    assert re.search(r"^FROM \$\{BASE\} AS base$", (ROOT / "Dockerfile").read_text(), re.M)
