#!/usr/bin/env bash
# procrastinate 3.10.0: a job that waits already is AlreadyEnqueued where the server speaks
# English, and an AssertionError without a text where it speaks German.
#
# With a `queueing_lock`, a second job with the same lock is refused, and the documentation has
# callers pass over `AlreadyEnqueued`.  Which lock it was is searched for in the detail of the
# server's error ("Key (queueing_lock)=..."), which PostgreSQL writes in the language of its
# `lc_messages`, and with quotes around the name under `quote_all_identifiers`: an assertion
# fails then, which nobody catches who catches what is documented.  A server's language is
# that of the machine that it was set up on, and a role can have another.
#
# Seen: procrastinate 3.10.0, psycopg 3.3.9 on Python 3.11 with PostgreSQL 15.18 of Debian 12.
set -euo pipefail

work=$(mktemp -d)
trap '[[ ! -s $work/data/postmaster.pid ]] || as_user "$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null
rm -rf "$work"' EXIT

cd "$work"
apt-get download -qq postgresql-15=15.18-0+deb12u1 libllvm14=1:14.0.6-12 \
    locales=2.36-9+deb12u14 &>/dev/null
for package in ./*.deb; do dpkg -x "$package" root; done
bin=$work/root/usr/lib/postgresql/15/bin
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu

# The German of the system, which few containers have.
export LOCPATH=$work/locale I18NPATH=$work/root/usr/share/i18n
mkdir "$LOCPATH"
localedef -i de_DE -f UTF-8 "$LOCPATH/de_DE.UTF-8"

python3 -m venv venv
venv/bin/pip install -q procrastinate==3.10.0 "psycopg[binary]==3.3.9"

# as_user COMMAND...: PostgreSQL refuses to run as root.
as_user() {
    if ((EUID)); then "$@"; else setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; fi
}
((EUID)) || chown -R nobody "$work"

as_user "$bin/initdb" -D data --no-locale --encoding=UTF8 --auth=trust -U me >/dev/null
as_user "$bin/pg_ctl" -D data -w -o "-c listen_addresses='' -k $work" -l "$work/log" start >/dev/null

cat >twice.py <<'PYTHON'
import asyncio
import sys

from procrastinate import App, PsycopgConnector, exceptions


async def defer_twice(conninfo, *settings):
    options = " ".join(f"-c {each}" for each in settings)
    app = App(connector=PsycopgConnector(conninfo=conninfo, kwargs={"options": options}))
    job = app.configure_task("anything", queueing_lock=f"one {settings}")
    async with app.open_async():
        if not settings:
            await app.schema_manager.apply_schema_async()
        await job.defer_async()
        try:
            await job.defer_async()
        except Exception as error:
            how = "as documented" if isinstance(error, exceptions.AlreadyEnqueued) else "not as documented"
            cause = error.__context__
            while getattr(cause, "diag", None) is None:
                cause = cause.__context__
            print(f"{type(error).__name__} ({how}): {cause.diag.message_detail}")


conninfo = sys.argv[1]
for settings in ((), ("lc_messages=de_DE.UTF-8",), ("quote_all_identifiers=on",)):
    asyncio.run(defer_twice(conninfo, *settings))
PYTHON
venv/bin/python -c "import twice" "host=$work user=me dbname=postgres" | tee seen

grep -q '^AlreadyEnqueued (as documented): Key (queueing_lock)=' seen
grep -q '^AssertionError (not as documented): Schlüssel »(queueing_lock)=' seen
grep -q '^AssertionError (not as documented): Key ("queueing_lock")=' seen
echo "as it was seen"
