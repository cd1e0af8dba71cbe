"""The layout of the package: what may import what, how large a module is, what is public.

Imports go one way, down.  Every module is read as a syntax tree, the imports in function
bodies and for annotations too, so that one breaks the rule even where nothing runs it.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import skycore_async
from skycore_async import errors, messages, notifications
from skycore_async.cli.app import COMMANDS

PACKAGE = "skycore_async"
ROOT = Path(skycore_async.__file__).parent

# From the bottom up: a folder, or a module at the top, imports from the layers before its
# own, and from `runtime`.
LAYERS: list[set[str]] = [
    {"version"},
    {"codes"},
    {"errors"},
    {"messages", "notifications"},
    {"protocol"},
    {"postbacks"},
    {"postgres", "telemetry", "transports"},
    {"ledger", "limits"},
    {"sending"},
    {"client", "receiving", "simulator"},
    {"campaigns", "sync"},
    {"cli", "pyinstaller", "pytest_plugin"},
]
LEVELS = {part: level for level, parts in enumerate(LAYERS) for part in parts}
WITHOUT_IO = set().union(*LAYERS[:6])
INPUT_AND_OUTPUT = {
    "aiohttp",
    "anyio",
    "asyncio",
    "concurrent",
    "ftplib",
    "http",
    "httpcore",
    "httpx",
    "multiprocessing",
    "psycopg",
    "requests",
    "selectors",
    "smtplib",
    "socket",
    "socketserver",
    "sqlite3",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "trio",
    "urllib.request",
    "xmlrpc",
}


def module_name(path: Path) -> str:
    """Return the name of a module below the package, such as `transports.base`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = {name: path for name, path in PATHS.items() if name}


@pytest.fixture(autouse=True, scope="module")
def forgotten() -> Iterator[None]:
    """Keep no syntax trees after these tests: the garbage collector would look through them."""
    yield
    parsed.cache_clear()


@cache
def parsed(module: str) -> Sequence[ast.AST]:
    """Return every node of a module."""
    return list(ast.walk(ast.parse(PATHS[module].read_text("utf-8"))))


@cache
def imported(module: str) -> Collection[str]:
    """Return the absolute names of what a module imports, wherever in it."""
    package = [PACKAGE, *PATHS[module].relative_to(ROOT).parent.parts]
    names: set[str] = set()
    for node in parsed(module):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names.update(f"{source}.{alias.name}" for alias in node.names)
    return names


def modules_used(module: str) -> set[str]:
    """Return the modules of the package that a module imports."""
    found: set[str] = set()
    for name in imported(module):
        if name.partition(".")[0] == PACKAGE:
            inside = name.removeprefix(f"{PACKAGE}.")
            found.add(inside if inside in MODULES else inside.rpartition(".")[0])
    return found - {module}


def part_of(module: str) -> str:
    """Return what a module is part of: a folder, or itself where it is at the top."""
    return module.partition(".")[0]


def test_every_module_has_a_layer() -> None:
    """No folder is without a place in the order."""
    assert {*map(part_of, MODULES)} <= {*LEVELS, "runtime"}


def from_above(module: str) -> set[str]:
    """Return what a module imports that is not below it, nor in its own folder."""
    parts = {part_of(other) for other in modules_used(module)} - {part_of(module), "runtime"}
    level = LEVELS.get(part_of(module), -1)
    return {other for other in parts if LEVELS[other] >= level}


@pytest.mark.slow
def test_a_module_imports_from_its_own_folder_and_from_below() -> None:
    """One way down: what is below never knows of what is above, nor of the public names."""
    assert set().union(*map(modules_used, MODULES)) <= MODULES.keys()
    assert {module: found for module in MODULES if (found := from_above(module))} == {}


def test_a_class_name_stands_once() -> None:
    """A class is found by its name alone."""
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        for node in parsed(module):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_no_two_modules_import_each_other() -> None:
    """Within a layer, too, imports go one way; a circle raises CycleError."""
    TopologicalSorter({module: modules_used(module) for module in MODULES}).prepare()


def of_the_outside(module: str) -> set[str]:
    """Return what of input and output a module imports, whole or in part."""
    names = (name.split(".") for name in imported(module))
    parts = {".".join(each[:size]) for each in names for size in range(1, len(each) + 1)}
    return parts & INPUT_AND_OUTPUT


def test_the_lowest_layers_do_no_input_or_output() -> None:
    """What decides is apart from what acts: no network, database, thread or event loop."""
    lowest = [module for module in MODULES if part_of(module) in WITHOUT_IO]
    assert len(lowest) > 20
    assert {module: found for module in lowest if (found := of_the_outside(module))} == {}


def test_no_statement_of_a_campaign_is_about_messages() -> None:
    """SQL of campaigns about messages is in `ledger.postgres.campaign_messages` alone."""
    campaigns = [module for module in MODULES if part_of(module) == "campaigns"]
    texts = {module: PATHS[module].read_text("utf-8") for module in campaigns}
    assert any("skycore.chunks" in text for text in texts.values())
    assert [module for module, text in texts.items() if "skycore.messages" in text] == []


def test_a_module_is_short() -> None:
    """No module is over 350 lines."""
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > 350} == {}


def test_each_command_has_a_file_and_each_file_a_command() -> None:
    """`cli/commands/` is the table of `cli/app.py`, and nothing else."""
    assert {path.stem for path in ROOT.joinpath("cli", "commands").iterdir()} - {
        "__init__",
        "__pycache__",
    } == {name.replace("-", "_") for name in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_of_a_command_declares_it_and_calls_what_does_it(command: str) -> None:
    """Each function in it is a click command, and it has no class: the rest is elsewhere."""
    tree = ast.parse(PATHS[f"cli.commands.{command.replace('-', '_')}"].read_text("utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in (node for node in tree.body if isinstance(node, kinds)):
        decorators = [ast.unparse(each).partition("(")[0] for each in node.decorator_list]
        assert {"command", "group"} & {name.rpartition(".")[2] for name in decorators}, node.name


HELP = """
from click.testing import CliRunner
from skycore_async.cli.app import COMMANDS, skycore

parts = ["cluster", "migrate"], ["opt-outs", "candidates"]
for arguments in ([], *([name] for name in COMMANDS), *parts):
    print(CliRunner().invoke(skycore, [*arguments, "--help"]).output)
"""


@pytest.mark.slow
def test_the_help_of_a_command_is_no_docstring() -> None:
    """`python -OO`, which leaves docstrings out, prints the same help."""
    with_docstrings, without = (
        subprocess.run(  # noqa: S603 - our own words
            [sys.executable, *options, "-c", HELP],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT.parent,
        ).stdout
        for options in ([], ["-OO"])
    )
    assert without == with_docstrings
    assert "Send SMS through Skycore" in without


@pytest.mark.parametrize(
    "statement",
    [
        "import skycore_async",
        "import skycore_async.postbacks",
        "from skycore_async import parse_postback; parse_postback('<NOTIFICATION/>')",
        "from skycore_async import SMS, PostbackError, segments; dir()",
    ],
)
def test_parsing_postbacks_loads_no_http_client(statement: str) -> None:
    """A web handler that only parses pays for neither httpx nor anyio."""
    loaded = "import sys; print(sorted({'anyio', 'asyncio', 'httpx'} & set(sys.modules)))"
    shown = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", f"{statement}; {loaded}"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
    )
    assert shown.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "from skycore_async import DirectTransport, HttpxTransport, SkycoreClient",
        "from skycore_async import SkycoreClient; SkycoreClient(api_key='key', transport='fast')",
    ],
)
def test_httpcore_is_loaded_with_the_first_of_its_connections(statement: str) -> None:
    """Neither an import nor a client over connections of our own waits for it to be loaded."""
    shown = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", f"import sys; {statement}; print('httpcore' in sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT.parent,
    )
    assert shown.stdout.strip() == "False"


# The public names.


def names_for_type_checkers() -> dict[str, str]:
    """Return the names that the package imports for type checkers, with their modules."""
    tree = ast.parse(PATHS[""].read_text("utf-8"))
    block, extended, hidden = (node for node in tree.body if isinstance(node, ast.If))
    assert {ast.unparse(each.test) for each in (block, extended)} == {"TYPE_CHECKING"}
    assert ast.unparse(hidden) == "if not TYPE_CHECKING:\n    __getattr__ = _load"
    assert [ast.unparse(each) for each in extended.body] == ["__all__ += notifications.__all__"]
    named = {
        alias.asname or alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    assert named.pop("*") == "notifications"
    return named | dict.fromkeys(notifications.__all__, "notifications")


def rank(name: str) -> tuple[int, str]:
    """Sort constants first, then classes, then the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def test_the_public_names_are_sorted_and_there_once() -> None:
    """`__all__` is in one order, which a reader can search; that of notifications follows it."""
    own, kinds = skycore_async._PUBLIC, notifications.__all__
    for names in (own, kinds):
        assert [*names] == sorted(set(names), key=rank)
    assert skycore_async.__all__ == [*own, *kinds]


def test_a_public_name_is_there() -> None:
    """Every public name resolves, is listed by `dir`, and is the one that type checkers see."""
    homes = names_for_type_checkers()
    for name in skycore_async.__all__:
        home = import_module(f"{PACKAGE}.{homes[name]}")
        assert getattr(skycore_async, name) is getattr(home, name), name
        assert name in dir(skycore_async), name


def test_dir_shows_the_public_names_alone() -> None:
    """`dir` of the package lists the public names alone."""
    assert set(dir(skycore_async)) == {*skycore_async.__all__}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("SkycorClient", ": did you mean 'SkycoreClient'?"), ("zzz", ""), ("__wrapped__", "")],
)
def test_an_unknown_name_suggests_the_nearest_one(name: str, hint: str) -> None:
    """An unknown name of the package suggests the nearest public one."""
    said = f"module 'skycore_async' has no attribute '{name}'{hint}"
    with pytest.raises(AttributeError, match=f"^{re.escape(said)}$"):
        getattr(skycore_async, name)


def test_the_lazy_table_and_the_type_checkers_agree() -> None:
    """What type checkers see is what is public, from the same modules."""
    seen = names_for_type_checkers()
    assert seen.keys() == set(skycore_async.__all__)
    assert {name: seen[name] for name in skycore_async._MODULE_OF} == skycore_async._MODULE_OF
    others = {seen[name] for name in seen.keys() - skycore_async._MODULE_OF.keys()}
    assert others == {"errors", "notifications"}


@pytest.mark.parametrize(
    "module", [errors, messages, notifications], ids=lambda module: module.__name__
)
def test_every_error_and_every_value_is_public(module: ModuleType) -> None:
    """What a caller can catch or receive can be imported from the package."""
    defined = {
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    assert defined <= set(skycore_async.__all__)


def test_all_public_names_are_imported_at_once() -> None:
    """`from skycore_async import *` brings each of them where every extra is installed."""
    found: dict[str, object] = {}
    exec("from skycore_async import *", found)  # noqa: S102 - it can stand in no function
    assert {*found} - {"__builtins__"} == {*skycore_async.__all__}


def test_a_name_that_is_not_public_is_not_there() -> None:
    """A misspelt name of the package is an AttributeError."""
    with pytest.raises(AttributeError, match="no attribute 'SkycoreClint'"):
        skycore_async.SkycoreClint  # type: ignore[attr-defined] # noqa: B018
