"""What the package promises by name: its exports, its signatures, its weight at import.

The types are held by `contract.py`, which the type checkers read.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import attrs
import pytest

import skycore_async
from skycore_async import SMS, SkycoreClient, errors, notifications
from skycore_async.sending.settings import Options
from tests.typing import contract

ROOT = Path(__file__).parents[2]


def parameters(function: object) -> dict[str, object]:
    """Return the parameters of a function by name, with their defaults."""
    assert callable(function)
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    }


def test_the_typed_contract_can_be_imported() -> None:
    """Every name that the contract imports is there."""
    assert callable(contract.match_outcome)


def test_the_client_takes_what_it_took() -> None:
    """The settings of a client, and their defaults, are part of the contract."""
    assert parameters(SkycoreClient) == {
        "api_key": None,
        "from_": None,
        "campaign_ref": None,
        "enforce_campaign_check": False,
        "base_url": None,
        "rate": None,
        "burst": 1,
        "max_in_flight": 50,
        "timeout": 30,
        "max_attempts": 3,
        "transport": None,
        "http_client": None,
        "ledger": None,
        "telemetry": None,
        "max_segments": None,
        "number_reader": None,
        "method": "POST",
    }


def test_send_sms_takes_the_fields_of_an_sms() -> None:
    """`send_sms` has the fields of SMS as keywords, with the same defaults, and its own two."""
    fields = {
        field.name: inspect.Parameter.empty if field.default is attrs.NOTHING else field.default
        for field in attrs.fields(SMS)
    }
    own = {"resend_in_doubt": False, "ignore_opt_out": False}
    assert parameters(SkycoreClient.send_sms) == fields | own
    assert all(
        parameter.kind is inspect.Parameter.KEYWORD_ONLY
        for function in (SkycoreClient, SkycoreClient.send_sms)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    )


def test_a_view_can_change_all_but_the_connections() -> None:
    """`with_options` takes every setting that is not about connections, pace or memory."""
    connections = {
        "transport",
        "http_client",
        "max_in_flight",
        "rate",
        "burst",
        "ledger",
        "telemetry",
    }
    assert Options.__annotations__.keys() == parameters(SkycoreClient).keys() - connections


def test_every_export_has_a_docstring() -> None:
    """Each public name is importable from the top, and where it is a class, it is explained."""
    for name in skycore_async.__all__:
        value = getattr(skycore_async, name)
        assert not inspect.isclass(value) or value.__doc__, name


def test_the_exports_are_what_the_type_checkers_see() -> None:
    """The imports for type checkers and `__all__` name the same, each once."""
    tree = ast.parse(inspect.getsource(skycore_async))
    checking, *_ = (node for node in tree.body if isinstance(node, ast.If))
    imported = [
        alias.name
        for node in checking.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    imported.remove("*")
    imported += notifications.__all__
    assert sorted(imported) == sorted(skycore_async.__all__)
    assert len(set(imported)) == len(imported)


def test_every_error_is_exported() -> None:
    """An error that can be raised can be caught by its public name."""
    defined = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined <= set(skycore_async.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The lazy exports do not make every name exist."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        skycore_async.nothing  # type: ignore[attr-defined] # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    """`__version__` and `pyproject.toml` say the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert skycore_async.__version__ == project["version"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("skycore_async", {"httpx", "anyio", "xmltodict", "attrs"}),
        ("skycore_async.postbacks", {"httpx", "anyio"}),
        ("skycore_async.protocol.responses", {"httpx", "anyio"}),
        ("skycore_async.errors", {"httpx", "anyio"}),
        ("skycore_async.client", {"trio"}),
    ],
)
def test_what_an_import_does_not_load(module: str, absent: set[str]) -> None:
    """Parsing postbacks loads no HTTP client, and no import loads what it does not use."""
    program = f"import sys, {module}; print(*({absent!r} & sys.modules.keys()))"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []
