"""The connection to the database: how it is made, its timeouts, and the errors if it fails.

Strategy: plain synchronous connections of psycopg, used from worker threads, so that they serve
asyncio and trio alike.

Rules:

* A dead connection fails instead of hanging: the system's timers are set so that a database that
  went away is noticed within half a minute.
* The password in a DSN is in no error, no `repr` and no frame of a traceback: psycopg's exceptions
  are passed on without their frames, and without their text if it quotes what it was given.
* A committed transaction is on the disk: `synchronous_commit` is set and read back, and a server
  with `fsync` off is refused, as is an unlogged table.  A synchronous standby has the transaction
  as well, see `watched_connection`.
* Rows that are hidden from the user would be missed: see `row_security`.
* The database can store every text: one in another encoding than UTF-8 is refused, and connections
  use UTF-8.
* A connection that writes has a server session to itself, with its own settings, locks and
  prepared statements.  A connection that only reads needs none, and sets nothing.
* A connection that is to write is not kept to a read-only server, such as a standby during a
  failover: it would stay there while the primary is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..errors import ConfigurationError, InvalidMessage, LedgerError
from ..runtime.secret import Secret
from .formats import SET_FORMATS
from .naming import are_ports, name_of
from .pooler_check import UnfitSession, check_durable, check_session
from .row_security import check_visible, refuse_hiding
from .schema import Connection, check
from .watched_connection import WatchedConnection

# In seconds, except the last, in milliseconds; the DSN's own settings take precedence.
_TIMERS: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
_UTF8: Final = "UTF8"
# Overrides PGCLIENTENCODING and the DSN, so that every key and every text can be written.
_ENCODING: Final = {"client_encoding": _UTF8}
# These override the server's defaults.  A step reads its data after it got its locks (`read
# committed`).  A process that was suspended in a transaction does not block others for long.
# Warnings are sent, such as that committed data is on no standby.  A statement is planned once,
# perhaps when its table is nearly empty, and used for as long as the connection lives, so rows are
# found by an index from the start, as with a full table.  Up to version 17 the planner then takes
# the smallest statement for a huge one, whose compiling (`jit`) costs half a second each time.
_SETTINGS: Final = (
    f"SET client_encoding = '{_UTF8}'; SET synchronous_commit = on;"
    " SET default_transaction_isolation = 'read committed';"
    " SET idle_in_transaction_session_timeout = '10s'; SET client_min_messages = 'warning';"
    " SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
    " SET jit = off"
)
# The row of a shared rate is created anew if it is gone.
_UNLOGGED: Final = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = to_regnamespace('skycore') AND relpersistence = 'u' AND relkind = 'r'
    AND relname <> 'shared_rates'
"""
_PREPARE_AFTER: Final = 5  # times that a statement is executed; the default of psycopg


class Database:
    """The database that `dsn` names, as a URL or as keywords of libpq.

    Raises ConfigurationError if that is no DSN.
    """

    def __init__(self, dsn: str) -> None:
        given, dsn = Secret(dsn), ""
        if not isinstance(given.reveal(), str):  # as None, of an environment that lacks it
            raise ConfigurationError(f"dsn: a str is needed, not {type(given.reveal()).__name__}")
        self.name, self._conninfo, wrong = _read(given)
        if wrong:
            raise ConfigurationError(f"dsn: {wrong}")

    @property
    def conninfo(self) -> str:
        """How to connect, as keywords of libpq, including the password."""
        return self._conninfo.reveal()

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def connect(self) -> Connection:
        """Connect, with autocommit unless a transaction is begun.

        Raises psycopg.OperationalError if it cannot be reached, and UnfitSession if a pooler in
        between keeps no sessions, or it takes no writes.
        """
        return self._without_frames(self._connect)

    def _connect(self) -> Connection:
        connection = self._connect_plainly()
        with closed_on_error(connection):
            check_session(connection, self._connect_plainly)
            connection.execute(f"{_SETTINGS}; {SET_FORMATS}")
            check_durable(connection.execute("SHOW synchronous_commit").fetchone())
            check_writable(connection.execute(IS_READ_ONLY).fetchone())
            connection.prepare_threshold = _PREPARE_AFTER
        return connection

    def _without_frames(self, connect: Callable[[], Connection]) -> Connection:
        """Connect; errors are raised without psycopg's frames, which hold the password."""
        try:
            return connect()
        except psycopg.Error as error:
            failure = cleaned(error)
        raise failure

    def connect_again(self) -> Connection:
        """Connect after a connection was lost, perhaps to another server, or to other tables.

        Raises psycopg.OperationalError as `connect` does, and LedgerError if writes cannot be
        relied on any more.
        """
        connection = self.connect()
        with closed_on_error(connection):
            self._check(connection)
        return connection

    def open(self) -> Connection:
        """Connect, and check that writes can be relied on.

        Raises LedgerError if it cannot be reached, can lose what it acknowledged, or lacks the
        tables.
        """
        return self._opened(self.connect, self._check)

    def open_to_migrate(self) -> Connection:
        """Connect as `connect` does, whatever tables there are.

        Raises LedgerError if it cannot be reached, or takes no writes.
        """
        return self._opened(self.connect, lambda _: None)

    def open_to_read(self) -> Connection:
        """Connect for transactions that only read, which a standby and any pooler allow.

        Raises LedgerError if it cannot be reached, or lacks the tables.
        """
        return self._opened(lambda: self._without_frames(self._connect_plainly), _check_read)

    def open_beside(self) -> Connection:
        """Connect as `open_to_read` does, but to no standby, which may lack recent writes."""
        return self._opened(lambda: self._without_frames(self._connect_beside), _check_read)

    def _connect_beside(self) -> Connection:
        connection = self._connect_plainly()
        with closed_on_error(connection):
            check_writable(connection.execute(IS_READ_ONLY).fetchone())
        return connection

    def _connect_plainly(self) -> Connection:
        # Through a pooler the next transaction may be in a session without the prepared
        # statements.
        connection = WatchedConnection.connect(
            self.conninfo, autocommit=True, prepare_threshold=None
        )
        encoding = connection.info.parameter_status("server_encoding")
        if encoding not in {_UTF8, None}:  # not every pooler tells
            connection.close()
            raise UnfitSession(
                f"its encoding is {encoding}, in which not every text can be kept: make one with"
                " CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        return connection

    def _opened(
        self, connect: Callable[[], Connection], check: Callable[[Connection], None]
    ) -> Connection:
        try:
            connection = connect()
        except UnfitSession as error:
            raise LedgerError(f"{self.name} cannot be used: {error}") from error
        except psycopg.Error as error:
            raise LedgerError(
                f"{self.name} cannot be reached: {describe_error(error)}"
            ) from cleaned(error)
        with closed_on_error(connection):
            try:
                check(connection)
            except psycopg.Error as error:
                raise LedgerError(f"{self.name} cannot be used: {advised(error)}") from cleaned(
                    error
                )
        return connection

    def _check(self, connection: Connection) -> None:
        (fsync,) = connection.execute("SHOW fsync").fetchone() or ("off",)
        if fsync != "on":
            raise LedgerError(
                f"{self.name} has fsync off, and would forget after a power cut what was sent: set"
                " fsync = on in postgresql.conf"
            )
        if row := connection.execute(_UNLOGGED).fetchone():
            raise LedgerError(
                f"{self.name} has the table {row[0]} unlogged, and would empty it after a crash,"
                f" so that what was sent is sent again: ALTER TABLE {row[0]} SET LOGGED. Where it"
                " has crashed since, or a standby took over, the table was emptied: cancel all"
                " campaigns then before a worker starts, or what was sent goes out again"
            )
        check_visible(connection)  # a version that is hidden would seem to be missing
        refuse_hiding(connection)
        check(connection)


def _check_read(connection: Connection) -> None:
    """Raise LedgerError unless this user can read the tables, and all of what is in them."""
    check_visible(connection, only_to_read=True)
    check(connection)


@contextmanager
def closed_on_error(connection: Connection) -> Iterator[None]:
    """Close a connection if the block fails, since nobody will get it."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _read(given: Secret) -> tuple[str, Secret, str]:
    """Return a database's name, how to connect to it, and any fault of the DSN."""
    words: dict[str, Any] = {}
    wrong = ""
    try:
        words = conninfo_to_dict(given.reveal())
    except (psycopg.Error, UnicodeError) as error:
        # Its text may quote the password.
        wrong = (
            "this is not a PostgreSQL connection string; one is postgresql://host/database"
            f" ({type(error).__name__})"
        )
    if not wrong and _is_torn(given.reveal()):
        wrong = (
            "an '@' or '/' in its user or password is written as %40 or %2F; or leave the"
            " password to ~/.pgpass"
        )
    if not wrong and not are_ports(str(words.get("port") or "")):
        wrong = "its port is no number to 65535; a password ends with '@', and then comes the host"
    # Of a DSN that is torn apart, any part may be one of a password.
    name = "PostgreSQL database" if wrong else name_of(words)
    words = {"application_name": "skycore-async", **_TIMERS, **words, **_ENCODING}
    return name, Secret("" if wrong else make_conninfo(**words)), wrong


def _is_torn(dsn: str) -> bool:
    """Return whether a part of a password would be read as the host, the port or the database."""
    authority, _, path = dsn.partition("://")[2].partition("/")
    return authority.count("@") > 1 or "@" in path.partition("?")[0]


_RIGHTS: Final = (
    "give this user the rights to the tables, or disable their row level security, as who ran"
    " `skycore cluster migrate` can"
)


def refusal(name: str, error: Exception) -> ConfigurationError | None:
    """Return the error if the database `name` would refuse the same again, otherwise None."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        advice = _RIGHTS
    elif isinstance(error, psycopg.ProgrammingError | psycopg.NotSupportedError):
        advice = (
            "the tables are gone, or of another version, or this user may not see them: run"
            " `skycore cluster migrate DSN` as their owner. Where a backup was put back, cancel"
            " its campaigns first, or what was sent since goes out again"
        )
    else:
        return None
    return ConfigurationError(f"{name}: {describe_error(error)}; {advice}; then start it again")


# The SQLSTATE classes whose texts quote data: data exceptions, and constraint violations.
_QUOTING: Final = ("22", "23")


def describe_error(error: Exception) -> str:
    """Return the first line of the server's or libpq's message; less of it if it quotes data."""
    name, state = type(error).__name__, getattr(error, "sqlstate", None)
    if state and state.startswith(_QUOTING):
        return f"{name} (SQLSTATE {state})"
    return (str(error).strip() or name).splitlines()[0]


_ANOTHER: Final = (
    "this server takes no writes, as a standby does not: name the one that does, or add"
    " target_session_attrs=read-write to a DSN that names several. If it is no standby,"
    " default_transaction_read_only is on for it, for this database or for this user"
)
IS_READ_ONLY: Final = "SHOW transaction_read_only"


def check_writable(found: tuple[Any, ...] | None) -> None:
    """Raise UnfitSession if a server is read-only, as `IS_READ_ONLY` found."""
    if found != ("off",):
        raise UnfitSession(_ANOTHER)


_BEHIND: Final = (
    "the sequences of ids are behind their tables, as where logical replication moved the tables:"
    " set each to the last id of its table, with setval"
)
_ADVICE: Final = (
    (psycopg.errors.InsufficientPrivilege, _RIGHTS),
    (psycopg.errors.ReadOnlySqlTransaction, _ANOTHER),
    (psycopg.errors.UniqueViolation, _BEHIND),  # of an id: what else is unique may be there
)


def advised(error: Exception) -> str:
    """Return `describe_error`'s text, with advice if there is any."""
    advice = next((f"; {known}" for kind, known in _ADVICE if isinstance(error, kind)), "")
    return describe_error(error) + advice


def write_failure(name: str, error: Exception) -> Exception:
    """Return the error to raise if the database `name` could not be written."""
    if not isinstance(error, psycopg.Error):
        return error
    if isinstance(error, psycopg.errors.ProgramLimitExceeded):  # of this message alone
        said = "it is too long for the database: one of up to 600 characters always fits"
        return InvalidMessage(said, field="key")
    return LedgerError(f"{name} could not be written: {advised(error)}")


def cleaned(error: psycopg.Error) -> psycopg.Error:
    """Return a copy of a psycopg error with its safe text only, and without its frames.

    The original's details quote a key and a number; its frames hold those and the password.
    """
    said = describe_error(error)
    error.__init__(said)  # type: ignore[misc] # which forgets the details, too
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error
