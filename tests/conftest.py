"""What every test module shares: both event loops, and the three transports.

Those over a client of the caller's are over one of httpx, or of the library that
SKYCORE_TESTS_HTTP_CLIENT names: httpx2.
"""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings

from benchmarks import postgres
from skycore_async import DirectTransport, HttpxTransport, SkycoreClient
from tests.support.fault_server import CERTIFICATE, client_context
from tests.support.measuring import leave_out_children, unmeasured

# How long a case takes says more of the machine than of the code; and a gate that judges a
# change tries the same cases each time.  Others are tried in each run elsewhere, and many more
# by `--hypothesis-profile thorough`.
hypothesis_settings.register_profile(
    "skycore", deadline=None, derandomize="CI" in os.environ, max_examples=40
)
hypothesis_settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis_settings.load_profile("skycore")

# A shell that has the tests run in its background has them ignore Ctrl-C, and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

if TYPE_CHECKING:
    import httpx

    http_library = httpx
else:
    http_library = import_module(os.environ.get("SKYCORE_TESTS_HTTP_CLIENT", "httpx"))

KEY = "Y6r74u6Br4hAVgrolveksjEiiu8yJX"

# A file system in memory, and the bytes that are to be free in it.
MEMORY = Path("/dev/shm")  # noqa: S108 - what is made in it is private
ROOM = 2 << 30

# Where trio reaches lines that asyncio does not.
MEASURED_ON_TRIO = (
    "tests/unit/",
    "tests/network/test_cancelling.py",
    "tests/network/test_direct.py",
    "tests/network/test_event_loops.py",
    "tests/network/test_fault_matrix.py",
)

# Where a slow test tries many cases of what quick ones reach.
MANY_CASES = (
    "tests/unit/ledger/test_report_matching.py",
    "tests/unit/limits/",
    "tests/unit/protocol/",
)

# Takes the base URL, and settings of the client in place of those of the tests.
OpenClient = Callable[..., AbstractAsyncContextManager[SkycoreClient]]


@pytest.fixture(autouse=True, scope="session")
def users_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what belongs to a user out of the user's own files."""
    os.environ["SKYCORE_HOME"] = str(tmp_path_factory.mktemp("user"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each test marked `anyio` on both event loops."""
    return str(request.param)


@asynccontextmanager
async def over_httpx(base_url: str, **settings: Any) -> AsyncIterator[SkycoreClient]:
    """Open a client over connections of its own."""
    settings = {"api_key": KEY, "from_": "60856", "timeout": 5, "max_attempts": 1, **settings}
    transport = HttpxTransport(verify=client_context())
    async with SkycoreClient(base_url=base_url, transport=transport, **settings) as client:
        yield client


@asynccontextmanager
async def over_http_client(base_url: str, **settings: Any) -> AsyncIterator[SkycoreClient]:
    """Open a client over an `AsyncClient` that is not its own."""
    settings = {"api_key": KEY, "from_": "60856", "timeout": 5, "max_attempts": 1, **settings}
    limits = http_library.Limits(max_connections=settings.get("max_in_flight", 50))
    made = http_library.AsyncClient(verify=client_context(), limits=limits, trust_env=False)
    async with (
        made as http_client,
        SkycoreClient(base_url=base_url, http_client=http_client, **settings) as client,
    ):
        yield client


@asynccontextmanager
async def over_direct(base_url: str, **settings: Any) -> AsyncIterator[SkycoreClient]:
    """Open a client over connections of its own, without httpx."""
    settings = {"api_key": KEY, "from_": "60856", "timeout": 5, "max_attempts": 1, **settings}
    transport = DirectTransport(verify=client_context())
    async with SkycoreClient(base_url=base_url, transport=transport, **settings) as client:
        yield client


TRANSPORTS: dict[str, OpenClient] = {
    "httpx": over_httpx,
    "http_client": over_http_client,
    "direct": over_direct,
}


@pytest.fixture(params=TRANSPORTS)
def open_client(request: pytest.FixtureRequest) -> OpenClient:
    """Open a client over each of the transports."""
    return TRANSPORTS[request.param]


@pytest.fixture(params=[name for name in TRANSPORTS if name != "http_client"])
def open_reusing_client(request: pytest.FixtureRequest) -> OpenClient:
    """Open a client over each of the transports that use a connection again."""
    return TRANSPORTS[request.param]


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Accept the project's options for pytest-xdist where that is left out; all is one process."""
    if not pluginmanager.hasplugin("xdist"):
        parser.addoption("--numprocesses")
        parser.addoption("--dist")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Run tests in four processes, also on fewer cores: they wait for each other's threads."""
    return 4


def pytest_configure(config: pytest.Config) -> None:
    """Have temporary files in memory, and clients that trust one certificate, in programs too.

    A ledger waits for the disk at every step, which is most of the time of the tests.  And to
    load all that the machine trusts takes some 20 ms for each program.  Each PostgreSQL that is
    started has the files of the first, as they were before that started.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        leave_out_children()
        return  # which has the rest from the process that started it
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and disk_usage(MEMORY).free > ROOM:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # which is asked for anew
    folder = tempfile.TemporaryDirectory(prefix="skycore-tests-")
    config.add_cleanup(folder.cleanup)
    trusted = Path(folder.name, "localhost.pem")
    trusted.write_text(CERTIFICATE, "ascii")
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    patch.setenv("SSL_CERT_FILE", str(trusted))
    patch.setenv(postgres.NEW, str(Path(folder.name, "postgres")))


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what is marked
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow what needs a PostgreSQL, and on trio what is quick on asyncio."""

    def chosen(item: pytest.Item, name: str) -> object:
        return getattr(getattr(item, "callspec", None), "params", {}).get(name)

    for item in items:
        names = getattr(item, "fixturenames", ())
        is_again = "trio" in str(chosen(item, "anyio_backend"))
        is_slow = item.get_closest_marker("slow") and item.nodeid.startswith(MANY_CASES)
        if is_slow or (is_again and not item.nodeid.startswith(MEASURED_ON_TRIO)):
            item.add_marker(pytest.mark.unmeasured)
        if is_again or "postgres_server" in names or chosen(item, "ledger") == "postgres":
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Have coverage rest where a test is marked so."""
    with unmeasured() if item.get_closest_marker("unmeasured") else nullcontext():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Have the garbage collector rest meanwhile, and pass over all these tests from then on.

    It looks less often then, too: what it finds comes to light in a later test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000)  # objects, and not 700
        gc.enable()


def pytest_runtest_teardown(nextitem: pytest.Item | None) -> None:
    """Have the garbage collector find in the last test of a process what is left of those before.

    After that test, pytest-xdist tells nobody.
    """
    if nextitem is None:
        gc.collect()


def pytest_sessionfinish() -> None:
    """Stop the PostgreSQL that the tests shared."""
    postgres.end()


@pytest.fixture
def postgres_server() -> postgres.Server:
    """Return the PostgreSQL that all tests share."""
    return postgres.shared()


@pytest.fixture
def dsn(postgres_server: postgres.Server) -> str:
    """Return the way to a PostgreSQL with the tables in it, all empty."""
    return postgres_server.emptied()
