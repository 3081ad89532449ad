"""What a module imports from third parties, itself and through every module of ours that it imports, wherever in it."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

OURS = {"services", "libs", "wire", "bivouac"}


def third_parties(*modules: str) -> dict[str, str]:
    """The top-level names of third parties that these modules reach, each with the module that imports it."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        for name in imports(module):
            top = name.partition(".")[0]
            if top in OURS:
                waiting += [name, *parents(name)]
            elif top not in sys.stdlib_module_names:
                found.setdefault(top, module)
    return found


def parents(module: str) -> Iterator[str]:
    words = module.split(".")
    for count in range(1, len(words)):
        yield ".".join(words[:count])


def imports(module: str) -> Iterator[str]:
    path = source(module)
    yield from of_tree(ast.parse(path.read_text())) if path else ()


def of_tree(tree: ast.AST) -> Iterator[str]:
    """Every import but those that only a type checker follows."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from of_tree(node)


def source(module: str) -> Path | None:
    """The file of a module of ours; a package is its `__main__` where it has one, as `python -m` takes it."""
    if module.partition(".")[0] not in OURS:
        return None
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # a name in a module, not a module
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None
