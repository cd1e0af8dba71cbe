"""A campaign that is loaded again with its numbers read in another way: refused.

Strategy: a key names its number, so that a number which is now read as one of a country
(`--country`) has a new key.  The keys that the messages would have without that are looked
for, all at once, among what the campaign has and what the ledger may have sent.

Rule: nobody is loaded a second time under another key.  One who is loaded already would
be sent to twice, and a row that was left out instead would go to a number that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..errors import CampaignError
from ..postgres.schema import Connection

# Of a message that was pruned, the key has another form.
_FIRST_KNOWN: Final = """
SELECT min(key) FROM (
    SELECT key, key AS form FROM skycore_unread
    UNION ALL SELECT key, skycore.pruned_name(key) FROM skycore_unread
    WHERE EXISTS (SELECT FROM skycore.pruned)) AS unread
WHERE form IN (
    SELECT unnest(keys) FROM skycore.chunks JOIN skycore.campaigns ON campaigns.id = campaign
    WHERE campaigns.name = %s)
OR EXISTS (SELECT FROM skycore.messages WHERE messages.key = form
    AND (doubted OR state NOT IN ('not_sent', 'rejected')))
"""


def refuse_reread(connection: Connection, name: str, unread: Iterable[str]) -> None:
    """Raise CampaignError where the campaign, or the ledger, has one of these keys.

    They are those that messages would have, were their numbers not read.
    """
    with connection.transaction():
        connection.execute("CREATE TEMP TABLE skycore_unread (key text) ON COMMIT DROP")
        with connection.cursor() as cursor, cursor.copy("COPY skycore_unread FROM STDIN") as copy:
            for key in unread:
                copy.write_row((key,))
        (known,) = connection.execute(_FIRST_KNOWN, (name,)).fetchone() or (None,)
    if known is not None:
        raise CampaignError(
            f"the key {known[:80]!r} is there from before its number was read as one of a"
            " country: nothing was loaded now, as whoever was sent to would be sent to again."
            " Load the campaign as before, without --country, or leave that row out"
        )
