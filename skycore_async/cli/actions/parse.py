"""What `skycore parse` does: read the body of a postback, and show its notifications."""

from __future__ import annotations

from typing import BinaryIO, Final

from ...errors import PostbackError
from ...postbacks import parse_postback
from ..ui.notifications import NotificationRow, row_of
from ..ui.output import emit, fail, plain
from ..ui.tables import console, show_table

_MOST: Final = 1024 * 1024  # bytes in a postback; one more is what the parser refuses


def show_postback(body: BinaryIO, *, as_json: bool) -> None:
    """Print the notifications of a body, or fail where it is no postback."""
    try:
        notifications = parse_postback(body.read(_MOST + 1))
    except PostbackError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{body.name} cannot be read: {error.strerror}")
    if as_json:
        for notification in notifications:
            emit({"kind": row_of(notification).kind, **plain(notification)})
    else:
        show_table(
            console(), NotificationRow.headings(), [row_of(one).cells() for one in notifications]
        )
