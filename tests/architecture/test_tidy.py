"""The habits of the house that a machine can check."""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILE_LINES_MAX = 300
FUNCTION_LINES_MAX = 50
VAGUE_FILES = {"utils", "util", "common", "helpers", "helper", "misc", "manager"}
VAGUE_FUNCTIONS = ("process_", "on_", "do_", "handle_")
IMPURE = {"now", "utcnow", "time", "uuid4", "uuid1", "random", "randint", "choice", "token_hex", "monotonic", "urandom"}


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def test_files_fit_one_subject() -> None:
    long = {str(p.relative_to(ROOT)): n for p in sources() if (n := p.read_text().count("\n")) > FILE_LINES_MAX}
    assert not long


def test_functions_fit_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name} {lines_of(function)}"
        for path in sources()
        for function in functions(path)
        if lines_of(function) > FUNCTION_LINES_MAX
    ]
    assert not long


def test_names_say_something() -> None:
    files = [str(path.relative_to(ROOT)) for path in sources() if path.stem in VAGUE_FILES]
    named = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
        for path in sources()
        for function in functions(path)
        if function.name.startswith(VAGUE_FUNCTIONS)
    ]
    assert not files + named


def test_every_module_says_what_it_holds() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in sources()
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert not silent


def test_decisions_take_time_and_chance_as_arguments() -> None:
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno} {name}"
        for path in sources()
        if "domain" in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and (name := called_name(node)) in IMPURE
    ]
    assert not calls


def called_name(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


@pytest.mark.parametrize("top", ["services", "libs", "sdk", "examples", "benchmarks", "tests"])
def test_subjects_are_spelled_in_wire_alone(top: str) -> None:
    prefixes = tuple(f"{kind}." for kind in ("cmd", "evt", "qry", "tel", "dead"))
    spelled = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for path in sources()
        if path.relative_to(ROOT).parts[0] == top and "bus" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith(prefixes)
        and " " not in node.value
    ]
    assert not spelled
