#!/usr/bin/env bash
# telnyx 4.189.0: a message whose answer was lost is sent three times, with nothing by which
# the service could know it again.
#
# `client.messages.send()` is a POST that is billed.  By default the client repeats it twice
# where the connection ends without an answer, and where the answer is a 500, although the
# message may have been taken each time.  The repeated requests carry the number of the retry
# and no idempotency key.  `max_retries=0` turns it off.
#
# Seen: telnyx 4.189.0, httpx 0.28.1 on Python 3.11, three requests in both cases.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/pip" install --quiet telnyx==4.189.0 httpx==0.28.1

cat >"$work/lost_answers.py" <<'PYTHON'
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import telnyx


def requests_for_one_message(status: int | None, **settings: int) -> list[dict[str, str]]:
    """Return the headers of each request that one message makes, answered with `status`.

    None ends the connection without an answer.
    """
    requests: list[dict[str, str]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append({name.lower(): value for name, value in self.headers.items()})
            if status is not None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        client = telnyx.Telnyx(api_key="key", base_url=address, **settings)
        try:
            client.messages.send(from_="+15550000000", to="+15551234888", text="Hello")
        except (telnyx.APIConnectionError, telnyx.InternalServerError):
            pass
        server.shutdown()
    return requests


for case, status, settings in (
    ("no answer", None, {}),
    ("status 500", 500, {}),
    ("no answer, max_retries=0", None, {"max_retries": 0}),
):
    requests = requests_for_one_message(status, **settings)
    keys = [name for headers in requests for name in headers if "idempotency" in name]
    print(f"{case}: {len(requests)} requests, {len(keys)} with an idempotency key")
PYTHON

"$work/environment/bin/python" "$work/lost_answers.py" | tee "$work/seen"
diff "$work/seen" - <<'EXPECTED'
no answer: 3 requests, 0 with an idempotency key
status 500: 3 requests, 0 with an idempotency key
no answer, max_retries=0: 1 requests, 0 with an idempotency key
EXPECTED
echo "as it was seen"
