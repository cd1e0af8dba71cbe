"""The options of `skycore bulk`, what follows from them, and which do not go together.

Rule: nobody who follows the advice here sends a second message to anyone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from ...errors import ConfigurationError
from ...ledger.sqlite.opt_out_list import OptOutList
from ...protocol.requests import ENDPOINT
from ...runtime.secret import Secret
from ...sending.hours import ANY_TIME, SendingHours, utc_now
from ...sending.settings import checked_address
from ...transports.choice import Road
from ..ui.dsn import dsn_of
from ..ui.ledger_target import LedgerFile
from ..ui.numbers import number_reader_of
from ..ui.opt_out_list import list_of
from ..ui.output import fail
from .confirmed_ledger import LedgerCounts
from .files import STANDARD_INPUT, has_name, stem_of
from .hours_survey import HoursSurvey
from .place import Place
from .questions import CampaignNotes, GivenAnswers
from .rows import RowOptions
from .send_options import SendOptions
from .written_rejects import WrittenRejects

if TYPE_CHECKING:
    from ..ui.database import LedgerDatabase
    from .listening import Listening


@attrs.frozen(kw_only=True)
class BulkOptions:
    """The options, by their names."""

    csv: str
    text: str | None
    ledger: Path | None
    cluster: Secret | None
    start: datetime | None
    between: str | None
    tz: str | None
    campaign: str | None
    country: str | None
    to_column: str | None
    text_column: str | None
    key_column: str | None
    from_column: str | None
    from_: str | None
    campaign_ref: str | None
    tags: tuple[str, ...]
    rate: float | None
    in_flight: int
    transport: Road
    price: Decimal | None
    max_segments: int | None
    max_segments_each: int | None
    limit: int | None
    opt_outs: str | None
    sample: int | None
    sample_to: str | None
    listen: tuple[str, int] | None
    listen_for: float
    rejects: Path | None
    dry_run: bool
    yes: bool
    yes_send_again: bool
    resend_in_doubt: bool
    settle: bool
    base_url: str | None
    api_key_file: Path | None
    as_json: bool

    @property
    def stem(self) -> Path:
        """The path that the names of the files beside the recipients begin with."""
        return stem_of(self.csv) if has_name(self.csv) else Path(self.campaign or "stdin")

    @property
    def ledger_path(self) -> Path:
        """The path of the ledger: beside the recipients, unless --ledger names another."""
        return self.ledger or self.stem.with_name(f"{self.stem.name}.db")

    @property
    def ledger_name(self) -> str:
        """The name by which the list of opt-outs knows the ledger."""
        if self.cluster is None:
            return LedgerFile(self.ledger_path).full_name
        from ..ui.database import name_of_database  # noqa: PLC0415 - the extra `postgres`

        return name_of_database(dsn_of(self.cluster))

    @property
    def database(self) -> LedgerDatabase | None:
        """The database of --cluster; None where the ledger is a file."""
        if self.cluster is None:
            return None
        from ..ui.database import LedgerDatabase  # noqa: PLC0415 - the extra `postgres`

        return LedgerDatabase(dsn_of(self.cluster))

    @property
    def known_ledger(self) -> Path | None:
        """The path of the ledger where the file exists; None elsewhere, and with --cluster."""
        return self.ledger_path if self.cluster is None and self.ledger_path.exists() else None

    @property
    def campaign_name(self) -> str:
        """The name of the campaign, which is the beginning of its messages' keys."""
        return self.campaign or self.stem.name

    @property
    def listening(self) -> Listening | None:
        """Where to take in postbacks while sending; None without --listen."""
        if self.listen is None:
            return None
        from .listening import Listening  # noqa: PLC0415 - the extra `server`

        host, port = self.listen
        return Listening(host=host, port=port, seconds=self.listen_for)

    @property
    def hours(self) -> SendingHours | None:
        """The hours within which messages may begin; None without --between."""
        if self.between is None:
            return None
        try:
            return SendingHours.read(self.between, self.tz)
        except ConfigurationError as error:
            fail(f"--{error}")

    def hours_survey(self, now: datetime) -> HoursSurvey | None:
        """Return the count of messages outside their hours at the start; None without hours."""
        start = now if self.start is None else max(now, self.start)
        return None if self.hours is None else HoursSurvey(self.hours, start)

    @property
    def place(self) -> Place:
        """Where and under which name the campaign is begun."""
        return Place(
            directory=str(self.stem.resolve().parent),
            address=self.base_url or ENDPOINT,
            ledger=self.ledger_name,
            in_database=self.cluster is not None,
            campaign=self.campaign_name,
        )

    @property
    def written_rejects(self) -> WrittenRejects | None:
        """The files of rejects written for these recipients; None where these have no name."""
        return WrittenRejects(Path(self.csv), self.place) if has_name(self.csv) else None

    @property
    def opt_out_list(self) -> OptOutList | None:
        """The list of opt-outs; None where none is used."""
        return list_of(self.opt_outs)

    def row_options(self) -> RowOptions:
        """Return the options that say what messages are made of rows."""
        own: dict[str, Any] = {
            "campaign": self.campaign_name,
            "number_reader": number_reader_of(self.country),
        }
        given = {field.name for field in attrs.fields(RowOptions)} - own.keys()
        return RowOptions(**own, **{name: getattr(self, name) for name in given})

    def given_answers(self) -> GivenAnswers:
        """Return the answers that the options give to what would be asked."""
        names = ("yes", "yes_send_again", "settle", "resend_in_doubt", "max_segments")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
        return GivenAnswers(verb="Send" if self.cluster is None else "Load", **given)

    @property
    def asks_to_resend(self) -> bool:
        """Whether the user is asked whether to send again what is in doubt."""
        return self.resend_in_doubt and not self.yes

    @property
    def resends_once(self) -> bool:
        """Whether doubts are resent without a question, perhaps in run after run."""
        return self.resend_in_doubt and self.yes

    def send_options(
        self,
        api_key: Secret | None,
        *,
        settle: bool,
        known: LedgerCounts,
        notes: CampaignNotes,
    ) -> SendOptions:
        """Return the options of the sending; `known` is what the check found in the ledger."""
        return SendOptions(
            api_key=api_key,
            client={"base_url": self.base_url, "max_in_flight": self.in_flight},
            rate=self.rate,
            transport=self.transport,
            limit=self.limit,
            opt_outs=self.opt_out_list,
            ledger_name=self.ledger_name,
            resend_in_doubt=self.resend_in_doubt,
            resends_once=self.resends_once,
            settle=settle,
            known=known,
            note_last_turn=notes.note_last_turn,
            listening=self.listening,
            start=self.start,
            hours=self.hours or ANY_TIME,
            clock=utc_now,
            live=sys.stderr.isatty(),
        )

    def check(self) -> None:
        """Fail where options do not go together."""
        for is_wrong, words in _WRONG:
            if is_wrong(self):
                fail(words)
        if self.base_url is not None:  # checked before it is noted, as it may contain a password
            try:
                checked_address(Secret(self.base_url))
            except ConfigurationError as error:
                fail(str(error))
        self.hours  # noqa: B018 - it fails where the hours make no sense


def _names_a_file(campaign: str) -> bool:
    path = Path(campaign)
    return bool(path.name) and path.parent.is_dir()


# Which options do not go together, and what to do instead.
_WRONG: Final[tuple[tuple[Callable[[BulkOptions], object], str], ...]] = (
    (
        lambda given: not (has_name(given.csv) or given.campaign or given.dry_run),
        "name what is read from standard input or a pipe with --campaign NAME",
    ),
    (
        lambda given: not (has_name(given.csv) or _names_a_file(given.campaign or "stdin")),
        (
            "--campaign is also what the ledger and the rejects of standard input or a pipe are"
            " called: name it as a file can be, in a directory that is there"
        ),
    ),
    (
        lambda given: given.text == STANDARD_INPUT,
        (
            "--text takes the text itself, and not standard input: a dash would go out to"
            ' everybody. A file of it is --text "$(cat FILE)"'
        ),
    ),
    (
        lambda given: given.cluster and given.ledger,
        (
            "--cluster goes without --ledger: the database has a ledger of its own. What is in a"
            " file is unknown there, and would be sent again, until `skycore cluster copy FILE"
            " DSN` has copied it"
        ),
    ),
    (
        lambda given: given.cluster and given.settle,
        "--cluster goes without --settle: `skycore settle DSN` ends what is in doubt there",
    ),
    (
        lambda given: given.cluster and given.resend_in_doubt,
        (
            "--cluster goes without --resend-in-doubt: workers never send again what may have been"
            " sent, but on your word of a campaign, `skycore cluster resend DSN CAMPAIGN`;"
            " `skycore status DSN --state in_doubt` lists it"
        ),
    ),
    (
        lambda given: given.cluster and given.limit,
        "--cluster goes without --limit: workers send all that is loaded",
    ),
    (
        lambda given: given.cluster and given.listen,
        "--cluster goes without --listen: `skycore listen --ledger DSN` takes the postbacks in",
    ),
    (
        lambda given: given.tz and not given.between,
        "--tz goes with --between FROM-TO, the hours that are meant there",
    ),
    (
        lambda given: bool(given.sample) is not bool(given.sample_to),
        "--sample N goes with --to NUMBER, to which the first N texts are sent",
    ),
    (
        lambda given: given.sample and (given.dry_run or given.cluster),
        "--sample sends a few texts to --to and ends: it goes without --dry-run and --cluster",
    ),
)
