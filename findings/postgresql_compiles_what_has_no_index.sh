#!/usr/bin/env bash
# PostgreSQL 15 with enable_seqscan = off: a table of one row takes over 100 milliseconds to read.
#
# The setting adds ten thousand million to the cost of a sequential scan. Where there is no
# other way, as for a table without an index, the scan is taken all the same, and its cost is
# past jit_above_cost (100,000) and both limits for more: the statement is compiled by LLVM,
# inlined and optimised, each time that it is executed, for one row. EXPLAIN shows the cost,
# and EXPLAIN ANALYZE the time. With jit = off it is what it was. Version 18.4 says of the same
# scan that it is disabled, at a cost of 0, so that nothing is compiled for it.
#
# A server that was built without LLVM, as those in wheels are, shows none of it.
#
# Seen: Debian 12's PostgreSQL 15.18 with LLVM 14.0.6: 153 ms, and 0.03 without compiling. Needs
# Debian 12 and apt, by which nothing is installed.
set -euo pipefail

work=$(mktemp -d)
server=postgresql-15 version=15.18-0+deb12u1
trap '[[ ! -s $work/data/postmaster.pid ]] || as_user "$bin/pg_ctl" -D "$work/data" -m immediate stop >/dev/null
rm -rf "$work"' EXIT

cd "$work"
apt-get download -qq "$server=$version" "postgresql-client-15=$version" \
    libllvm14=1:14.0.6-12 &>/dev/null
for package in ./*.deb; do dpkg -x "$package" root; done
bin=$work/root/usr/lib/postgresql/15/bin
export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu

# as_user COMMAND...: PostgreSQL refuses to run as root.
as_user() {
    if ((EUID)); then "$@"; else setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; fi
}
((EUID)) || chown -R nobody "$work"

as_user "$bin/initdb" -D data --no-locale --auth=trust -U me >/dev/null
as_user "$bin/pg_ctl" -D data -w -o "-c listen_addresses='' -k $work" -l "$work/log" start >/dev/null

# explained SETTINGS: what reading the one row takes, in a session with these settings.
explained() {
    printf '%s\n' "CREATE TEMP TABLE one AS SELECT 1 AS number;" "$1" \
        "EXPLAIN (ANALYZE, TIMING OFF) SELECT number FROM one WHERE number = 1;" |
        "$bin/psql" -X -h "$work" -U me -d postgres -qAt
}

explained "SET enable_seqscan = off;" | tee slow
explained "SET enable_seqscan = off; SET jit = off;" | tee quick
grep -q 'cost=10000000000' slow
grep -q 'Options: Inlining true, Optimization true' slow
! grep -q JIT quick

# Execution time in whole milliseconds: of either.
milliseconds() { sed -n 's/^Execution Time: \([0-9]*\).*/\1/p' "$1"; }
(($(milliseconds slow) > 20 * ($(milliseconds quick) + 1) / 2))
echo "as it was seen"
