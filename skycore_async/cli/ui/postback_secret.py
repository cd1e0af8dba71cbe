"""The secret of a postback URL, from the environment: it is never an argument, nor shown."""

from __future__ import annotations

import os
from typing import Final

from ...runtime.secret import Secret
from .output import fail

SECRET: Final = "SKYCORE_POSTBACK_SECRET"  # noqa: S105 - the name of the variable, not its value


def postback_secret() -> Secret | None:
    """Return the secret, None where there is none, or fail where it would keep nobody out."""
    if SECRET not in os.environ:
        return None
    secret = Secret(os.environ[SECRET])
    if not secret.reveal().strip():
        # As where a variable in it was not set: everybody could post.
        fail(f"{SECRET} is empty: give it a secret, or unset it to do without one")
    return secret
