import ast
import sys
from pathlib import Path

import pytest

import streams

ROOT = Path(streams.__file__).parent
CORE = sorted((ROOT / "core").glob("*.py"))

# Modules of the standard library that read no clock, environment, network or disk by themselves.
PURE = {
    "bisect", "collections", "collections.abc", "dataclasses", "datetime", "enum", "functools",
    "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "string", "struct",
    "types", "typing", "zlib",
}  # fmt: skip
CLOCKS = {"now", "today", "utcnow", "time", "time_ns", "monotonic"}
OPENERS = {"open", "input", "print", "exec", "eval", "__import__", "breakpoint"}


def imported(path: Path) -> set[str]:
    """Return the modules that *path* imports, at its top or later."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports here are absolute"
            assert node.module is not None
            found |= {_module_of(node.module, alias.name) for alias in node.names}
    return found


def _module_of(package: str, name: str) -> str:
    """`from streams.core import item` imports a module, `from streams.errors import X` a name."""
    inside = ROOT.parent / Path(*package.split("."), f"{name}.py")
    return f"{package}.{name}" if inside.is_file() else package


def file_of(module: str) -> Path:
    """Return the file of a module of ours."""
    path = ROOT.parent / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reached(path: Path) -> dict[str, str]:
    """Return each module *path* reaches through modules of ours, and the file that imports it."""
    found: dict[str, str] = {}
    ahead = [path]
    while ahead:
        here = ahead.pop()
        for module in imported(here) - found.keys():
            found[module] = here.name
            if module.split(".")[0] == "streams":
                ahead.append(file_of(module))
    return found


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_core_imports_only_what_is_pure(path: Path) -> None:
    """The core reaches msgspec, itself, errors and pure modules of the standard library only."""
    allowed = PURE | {"msgspec", "msgspec.structs", "msgspec.json", "streams.errors"}
    found = reached(path)

    wrong = {
        module: by
        for module, by in found.items()
        if module not in allowed and not module.startswith("streams.core")
    }

    assert {} == wrong


@pytest.mark.parametrize("path", CORE, ids=lambda path: path.stem)
def test_core_reads_no_clock_and_opens_nothing(path: Path) -> None:
    """No call in the core asks what time it is, opens a file, prints or runs text as code."""
    calls = [
        node.func
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]

    clocks = [call.attr for call in calls if isinstance(call, ast.Attribute)]
    openers = [call.id for call in calls if isinstance(call, ast.Name)]

    assert not CLOCKS.intersection(clocks)
    assert not OPENERS.intersection(openers)


def test_packages_above_the_core_import_nothing() -> None:
    """`import streams.core` runs `streams/__init__.py`: that must not bring a framework along."""
    roots = {module.split(".")[0] for module in reached(ROOT / "__init__.py")}

    assert roots <= set(sys.stdlib_module_names) | {"streams"}
    assert not roots & {"time", "os", "random", "socket", "asyncio", "threading"}


def test_core_is_found() -> None:
    """The two tests above have files to look at."""
    assert {"decode", "user", "item", "verdict", "fold"} <= {path.stem for path in CORE}
