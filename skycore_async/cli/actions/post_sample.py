"""What `skycore simulate --postback` does: post one sample, and say how it was answered.

Rule: the URL may have a secret in it, and is not shown.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from http import HTTPStatus

import click
import httpx

from ...simulator import PostbackForm
from ...simulator.samples import SAMPLES, SampleFacts
from ...transports.tls import ssl_context
from ..ui.output import Exit, emit, fail, say

_TIMEOUT = 10.0  # seconds that Skycore waits


def post_sample(
    kind: str, url: str, form: PostbackForm, *, facts: dict[str, str], as_json: bool
) -> Exit:
    """Post a sample of this kind to `url`, show it and its answer, and return the exit code.

    `facts` are the fields of `SampleFacts` that were given.
    """
    now = datetime.now(UTC)
    id_ = time.time_ns() // 1000
    body = SAMPLES[kind](SampleFacts(id=id_, time=now, **facts), form)
    headers = {"content-type": "text/xml; charset=utf-8"}
    try:
        # A proxy of the environment has no way to this machine.
        with httpx.Client(timeout=_TIMEOUT, trust_env=False, verify=ssl_context(True)) as client:
            answer = client.post(url, content=body, headers=headers)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        fail("--to: it is no URL, such as http://127.0.0.1:8026/postback")
    except httpx.HTTPError as error:
        why = str(error).rpartition("] ")[2] or type(error).__name__  # without [Errno 111]
        fail(f"--to: nobody answered there: {why}", Exit.NOT_ALL_WELL)
    is_taken = answer.status_code == HTTPStatus.OK
    if as_json:
        emit({"kind": kind, "body": body.decode(), "status": answer.status_code})
    else:
        click.echo(body)
        said = f"Answered with {answer.status_code}"
        again = "" if is_taken else ": Skycore would post it again, up to five times"
        say(f"{said}{again}. {answer.text[:200]}", err=True)
    return Exit.DONE if is_taken else Exit.NOT_ALL_WELL
