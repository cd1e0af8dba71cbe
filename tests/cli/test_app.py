"""`skycore`: its commands, their help, and what all of them share."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from skycore_async.cli.app import COMMANDS, Commands, skycore
from skycore_async.cli.ui.output import Exit
from skycore_async.simulator import Simulator

ORDER = [
    "demo",
    "send",
    "bulk",
    "worker",
    "cluster",
    "settle",
    "status",
    "report",
    "export",
    "prune",
    "opt-outs",
    "inbox",
    "listen",
    "simulate",
    "parse",
    "segments",
]
MINE = ["send", "status", "listen", "simulate", "parse", "segments"]

# What measures the coverage loads modules of its own before.
LOADED = """
import sys
before = set(sys.modules)
from skycore_async.cli.app import skycore
try:
    skycore({arguments})
except SystemExit:
    pass
print(sorted(set(sys.modules) - before))
"""

# In one process for all: what two commands load is told of the first.
LOADED_BY_EACH = """
import json, sys
before, loaded = set(sys.modules), {{}}
from skycore_async.cli.app import skycore
for command in {commands}:
    skycore([command, "--help"], standalone_mode=False)
    loaded[command] = sorted(set(sys.modules) - before)
    before.update(sys.modules)
print(json.dumps(loaded))
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    return subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-W", "error", "-m", "skycore_async.cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=30,
        env={**os.environ, **environment},
    )


def loaded(program: str) -> str:
    """Return the last line of a program's output: the names of the modules it loads."""
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def loaded_by_help() -> dict[str, list[str]]:
    """Return which modules the help of each command loads in addition to those before."""
    found: dict[str, list[str]] = json.loads(loaded(LOADED_BY_EACH.format(commands=ORDER)))
    return found


def test_the_help_lists_every_command_in_order() -> None:
    """`skycore --help` lists all commands in the order in which people need them."""
    done = CliRunner().invoke(skycore, ["--help"])
    table = done.output.partition("Commands:")[2]
    assert done.exit_code == 0
    assert [line.split()[0] for line in table.splitlines() if line[2:3].strip()] == ORDER


@pytest.mark.slow
def test_the_help_loads_no_command() -> None:
    """`skycore --help` loads no command, HTTP client or table library."""
    modules = loaded(LOADED.format(arguments=["--help"]))
    commands = (f"skycore_async.cli.commands.{command.replace('-', '_')}" for command in ORDER)
    for name in (*commands, "httpx", "anyio", "rich"):
        assert f"'{name}'" not in modules


@pytest.mark.slow
@pytest.mark.parametrize("command", ORDER)
def test_the_help_of_a_command_loads_nothing_heavy(
    command: str, loaded_by_help: dict[str, list[str]]
) -> None:
    """A command's help loads no heavy library."""
    modules = set(loaded_by_help[command])
    assert f"skycore_async.cli.commands.{command.replace('-', '_')}" in modules
    heavy = {"httpx", "anyio", "rich", "uvicorn", "jinja2", "psycopg", "sqlite3"}
    assert not heavy & modules


@pytest.mark.parametrize("command", ORDER)
def test_every_command_has_help(command: str) -> None:
    """Each command says what it does and what its exit codes mean."""
    done = CliRunner().invoke(skycore, [command, "--help"])
    assert done.exit_code == 0
    assert "Exit codes:" in done.output


@pytest.mark.parametrize("command", MINE)
def test_help_has_an_example_and_says_what_the_table_says(command: str) -> None:
    """A command's help begins with its line of the overview, and has examples."""
    done = CliRunner().invoke(skycore, [command, "--help"], env={"COLUMNS": "200"})
    assert COMMANDS[command].removesuffix(".") in done.output
    assert "\n  Examples:\n    " in done.output
    assert f"skycore {command} " in done.output.partition("Examples:")[2]


def options_of(command: click.Command, context: click.Context) -> Iterator[click.Option]:
    """Yield the options of a command and of all below it."""
    yield from (each for each in command.params if isinstance(each, click.Option))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options_of(below, context)


def test_every_option_says_what_it_is_for() -> None:
    """Every option has a help sentence."""
    options = list(options_of(skycore, click.Context(skycore)))
    assert len(options) > 100
    assert [each.opts for each in options if not (each.help or "").endswith((".", "]."))] == []


@pytest.mark.parametrize("columns", ["40", "60", "80"])
@pytest.mark.parametrize(
    "command", [[name] for name in ORDER] + [["cluster", "resend"], ["opt-outs", "candidates"], []]
)
def test_help_breaks_no_option(command: list[str], columns: str) -> None:
    """Help breaks no word with hyphens, such as an option, across lines."""
    help_ = CliRunner().invoke(skycore, [*command, "--help"], env={"COLUMNS": columns}).output
    assert [line for line in help_.splitlines() if line.endswith("-")] == []


@pytest.mark.parametrize(
    ("group", "last"),
    [
        ("cluster", "cancel Stop sending for good: what was not sent never will be."),
        (
            "opt-outs",
            "remove Take numbers off the list, as when somebody asked for messages again.",
        ),
    ],
)
def test_the_help_of_a_subcommand_is_not_cut_short(group: str, last: str) -> None:
    """A subcommand's summary is not cut off on a narrow terminal."""
    help_ = CliRunner().invoke(skycore, [group, "--help"], env={"COLUMNS": "60"}).output
    commands = " ".join(help_.partition("Commands:")[2].split())
    assert last in commands
    assert "..." not in commands


def test_help_fits_a_narrow_terminal() -> None:
    """At 40 columns help is wrapped, but for the examples."""
    help_ = CliRunner().invoke(skycore, ["status", "--help"], env={"COLUMNS": "40"}).output
    prose, _, rest = help_.partition("Examples:")
    options = rest.partition("Exit codes:")[2]
    too_long = [line for line in (prose + options).splitlines() if len(line) > 40]
    assert not too_long


@pytest.mark.parametrize(
    "arguments",
    [
        ["sned"],
        ["send"],
        ["send", "--nope"],
        ["status", "no-such-ledger.db"],
        ["parse", "no-such-file.xml"],
        ["listen"],
        ["simulate", "--port", "70000"],
    ],
)
def test_wrong_usage_is_exit_code_2_with_a_reason(arguments: list[str]) -> None:
    """Wrong usage is exit code 2 with a reason on standard error."""
    done = CliRunner().invoke(skycore, arguments)
    assert done.exit_code == Exit.USAGE
    assert done.stdout == ""
    assert done.stderr
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_completion_is_there(shell: str) -> None:
    """The help's line for a shell prints that shell's completion."""
    environment = {"_SKYCORE_COMPLETE": f"{shell}_source"}
    done = CliRunner().invoke(skycore, env=environment, prog_name="skycore")
    assert "_SKYCORE_COMPLETE" in done.output


def test_completion_knows_commands_and_options() -> None:
    """Completion completes commands and values of options."""

    def complete(*words: str) -> str:
        environment = {
            "_SKYCORE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("skycore", *words)),
            "COMP_CWORD": str(len(words)),
        }
        return CliRunner().invoke(skycore, env=environment, prog_name="skycore").output

    assert complete("seg") == "plain,segments\n"
    assert complete("status", "promo.db", "--state", "in") == "plain,in_doubt\n"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("simualte", "No such command 'simualte'. Did you mean 'simulate'?\n"),
        ("xyz", "No such command 'xyz'.\n"),
    ],
)
def test_an_unknown_command_suggests_a_near_one(typed: str, said: str) -> None:
    """An unknown command is answered with the nearest one, if any is near."""
    done = CliRunner().invoke(skycore, [typed])
    assert done.exit_code == Exit.USAGE
    assert done.stderr.endswith(said)


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("bulk promo.csv --lisen 8026", " Did you mean '--listen'?"),
        ("--versio", " Did you mean '--version'?"),
        ("bulk promo.csv -x", None),
    ],
)
def test_an_unknown_option_suggests_a_near_one(typed: str, near: str | None) -> None:
    """An unknown option is answered with the nearest one, and no other."""
    done = CliRunner().invoke(skycore, typed.split())
    assert done.exit_code == Exit.USAGE
    *_, said = done.stderr.splitlines()
    assert said.startswith("Error: No such option")
    assert said.count("?") == said.endswith(near) == 1 if near else "?" not in said


@pytest.mark.parametrize(
    ("typed", "numbers"),
    [
        ("bulk promo.csv --rate 0", "0.0 is not in the range 0.001 or more."),
        ("bulk promo.csv --in-flight 0", "0 is not in the range 1 to 10000."),
        ("send 15551234888 Hi --timeout 0", "0.0 is not in the range more than 0."),
    ],
)
def test_the_error_of_a_number_out_of_range_names_the_range(typed: str, numbers: str) -> None:
    """A number out of range is answered with the range, which the help has as well."""
    done = CliRunner().invoke(skycore, typed.split())
    assert done.exit_code == Exit.USAGE
    assert done.stderr.endswith(f": {numbers}\n")
    help_ = CliRunner().invoke(skycore, [typed.split(maxsplit=1)[0], "--help"]).output
    assert numbers.partition("range ")[2].rstrip(".") in " ".join(help_.split())


@pytest.mark.parametrize("width", [60, 80])
def test_a_usage_error_is_wrapped_between_words(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """A usage error on a terminal is wrapped between words."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    typed = ["export", "promo.db", "--state", "deliverd"]
    monkeypatch.setenv("COLUMNS", str(width))
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(SystemExit) as ended:
        skycore(typed, prog_name="skycore")
    lines = terminal.getvalue().splitlines()
    assert ended.value.code == Exit.USAGE
    assert max(map(len, lines)) <= width
    whole = CliRunner().invoke(skycore, typed, prog_name="skycore").stderr
    assert " ".join(lines).split() == whole.split()
    assert whole.count("\n") == 4  # through a pipe it is one line, below how it is called


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command without its extra says what to install."""
    monkeypatch.delitem(sys.modules, "skycore_async.simulator.asgi_thread", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = CliRunner().invoke(skycore, ["simulate"])
    assert done.exit_code == Exit.NOT_ALL_WELL
    assert done.stderr == (
        "skycore: uvicorn is not installed: pip install 'skycore-async[server]'\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "arguments"),
    [("rich.box", ["segments", "x"]), ("jinja2", ["report", "promo.db", "--json"])],
)
def test_a_library_of_the_extra_that_is_missing_is_named(
    library: str, arguments: list[str]
) -> None:
    """A missing library of an extra is answered with the extra to install."""
    hidden = f"import sys; sys.modules[{library!r}] = None; "
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", hidden + LOADED.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "is not installed: pip install 'skycore-async[cli]'" in done.stderr


def group_that(raises: BaseException) -> Commands:
    """Make a group with one command that fails."""

    @click.group(cls=Commands)
    def group() -> None:
        pass

    @group.command()
    def demo() -> None:
        raise raises

    return group


def test_another_missing_module_is_a_defect_and_shows_itself() -> None:
    """An ImportError that concerns no extra is raised as it is."""
    done = CliRunner().invoke(group_that(ImportError("no module 'skycore_asink'")), ["demo"])
    assert isinstance(done.exception, ImportError)


def test_typed_input_that_is_no_text_makes_a_one_line_error() -> None:
    """An argument that is no UTF-8 is a one-line error."""
    done = CliRunner().invoke(skycore, ["simulate", "--postback", "stop", "--to", "\udcff"])
    words = "skycore: an argument is not all text in UTF-8\n"
    assert (done.exit_code, done.stderr) == (Exit.USAGE, words)


def test_ctrl_c_is_exit_code_130() -> None:
    """An interrupted command says so and exits with 130."""
    done = CliRunner().invoke(group_that(KeyboardInterrupt()), ["demo"])
    assert (done.exit_code, done.stderr) == (Exit.INTERRUPTED, "skycore: interrupted\n")


def test_a_second_ctrl_c_in_a_task_is_none_but_an_interruption() -> None:
    """A KeyboardInterrupt in an exception group is an interruption; other groups are raised."""
    raised = BaseExceptionGroup("tasks", [ValueError(), KeyboardInterrupt()])
    done = CliRunner().invoke(group_that(raised), ["demo"])
    assert (done.exit_code, done.stderr) == (Exit.INTERRUPTED, "skycore: interrupted\n")
    done = CliRunner().invoke(group_that(ExceptionGroup("tasks", [ValueError()])), ["demo"])
    assert isinstance(done.exception, ExceptionGroup)


def test_a_ctrl_c_while_an_error_is_printed_is_an_interruption() -> None:
    """A Ctrl-C while an error is being printed is an interruption."""

    class Words(KeyError, OSError):
        """An error during whose text an interruption comes."""

        @property
        def filename(self) -> str:
            raise KeyboardInterrupt

    done = CliRunner().invoke(group_that(Words()), ["demo"])
    assert (done.exit_code, done.stderr) == (Exit.INTERRUPTED, "skycore: interrupted\n")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("when", ["while modules are imported", "at the end"])
def test_ctrl_c_shows_no_traceback_whenever_it_comes(when: str) -> None:
    """Ctrl-C during imports or at the end shows no traceback."""
    at_import = "import builtins as b, signal\nof = b.__import__\ndef load(name, *more):\n"
    at_import += "    if name == 'click': signal.raise_signal(signal.SIGINT)\n"
    at_import += "    return of(name, *more)\nb.__import__ = load"
    at_end = "import atexit, signal\natexit.register(signal.raise_signal, signal.SIGINT)"
    first = at_import if when.startswith("while") else at_end
    program = f"{first}\nfrom skycore_async.cli import main\nmain()"
    command = [sys.executable, "-c", program, "segments", "Hi"]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (130 if when.startswith("while") else -signal.SIGINT)
    assert done.stderr == ("skycore: interrupted\n" if when.startswith("while") else "")


@pytest.mark.parametrize("command", ["status", "export", "inbox"])
def test_a_path_that_cannot_be_is_one_line(command: str) -> None:
    """An impossible path is a one-line error."""
    done = CliRunner().invoke(skycore, [command, "x" * 300])
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith(f"skycore: {'x' * 300}: ")


@pytest.mark.parametrize(
    "typed",
    [
        "status -",
        "listen --ledger -",
        "send 15551234888 Hi --from 60856 --ledger -",
        "opt-outs list --opt-outs -",
        "settle promo.db --save -",
        "bulk promo.csv --text Hi --dry-run --ledger -",
        "bulk promo.csv --text Hi --dry-run --rejects -",
        "cluster copy - postgresql://localhost/sms",
    ],
)
def test_a_dash_is_no_file(typed: str, surroundings: None) -> None:
    """`-` is refused where it cannot be standard input or output."""
    Path("promo.csv").write_text("to\n15551234888\n")
    done = CliRunner().invoke(skycore, typed.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert "a file of that name is ./-" in " ".join(done.stderr.split())
    assert not Path("-").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be removed there")
@pytest.mark.parametrize(
    "typed", ["status x.db", "send 15551234888 Hi --ledger x.db", "bulk promo.csv --text Hi --yes"]
)
def test_a_directory_that_was_removed_is_told(
    typed: str, surroundings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a new release of what the terminal is in: no file in it can be named."""
    recipients = tmp_path / "promo.csv"
    recipients.write_text("to\n15551234888\n")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    ledger = ("--ledger", "x.db") if typed.startswith("bulk") else ()
    arguments = typed.replace("promo.csv", str(recipients)).split()
    done = CliRunner().invoke(skycore, [*arguments, *ledger])
    assert done.exit_code == Exit.USAGE
    assert done.stderr.splitlines()[-1].startswith("skycore: the directory that it is run in was")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
@pytest.mark.parametrize(
    "arguments", [["segments", "x"], ["bulk", "promo.csv", "--text", "x", "--dry-run"]]
)
def test_a_full_disk_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    """Output that cannot be written is a one-line error."""
    (tmp_path / "promo.csv").write_text("to\n15551234888\n")
    command = [sys.executable, "-m", "skycore_async.cli", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(  # noqa: S603 - our own interpreter
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert done.returncode == Exit.NOT_ALL_WELL
    assert done.stderr.startswith("skycore: a disk is full: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its shell cannot close a stream")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_costs_no_outcome(closed: str, simulator: Simulator) -> None:
    """A command with closed standard streams still sends, and has its exit code."""
    program = [sys.executable, "-W", "error", "-m", "skycore_async.cli"]
    Path("promo.csv").write_text("to\n15551233000\n")
    for command in (
        ["send", "15551234888", "Hi"],
        ["bulk", "promo.csv", "--text", "Hi"],
        ["bulk", "promo.csv", "--text", "Hi", "--yes"],
        ["bulk", "-", "--campaign", "given", "--text", "Hi", "--yes"],
    ):
        done = subprocess.run(  # noqa: S603 - our own interpreter
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *program, *command],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        asks, reads = command[-1] != "--yes" and command[0] == "bulk", "-" in command
        assert done.returncode == (Exit.USAGE if asks or reads else Exit.DONE), done.stderr
        assert "Traceback" not in done.stderr
    assert simulator.billed == 2


def test_output_goes_where_it_cannot_be_written_as_it_is() -> None:
    """Characters that a stream cannot encode are escaped."""
    done = run("segments", "☎", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "BLACK TELEPHONE" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_on_any_stream(encoding: str) -> None:
    """`--json` is valid JSON in any encoding of the stream."""
    done = run("segments", "é😀", "--json", PYTHONIOENCODING=encoding)
    shown = json.loads(done.stdout)["forced_ucs2"][0]
    assert (done.returncode, done.stderr, shown["character"]) == (0, "", "😀")


@pytest.mark.slow
def test_no_color_is_obeyed_and_so_is_a_pipe(tmp_path: Path) -> None:
    """Output into a pipe has no escape sequences."""
    body = tmp_path / "postback.xml"
    body.write_text("<POSTBACK><ORIGIN>SMS_MT</ORIGIN><CODE>N201</CODE></POSTBACK>")
    done = run("parse", str(body), NO_COLOR="1", TERM="xterm-256color")
    assert (done.returncode, done.stderr) == (0, "")
    assert "sent" in done.stdout
    assert "\x1b" not in done.stdout
