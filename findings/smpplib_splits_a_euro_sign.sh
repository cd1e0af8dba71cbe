#!/usr/bin/env bash
# smpplib 2.2.4: a price in euros loses its sign where a part of a long message ends, and a
# grave accent arrives as a paragraph sign.
#
# In the GSM 7-bit alphabet (3GPP TS 23.038) a euro sign is two septets, an escape and a letter.
# `make_parts` cuts a long text after each 153 septets, also between these two: the escape ends
# one part and the letter begins the next.  A phone that decodes part by part shows "e" for the
# sign, and a count of the septets finds fewer parts than one that keeps the two together, as
# the standard has it.  The grave accent is not in the alphabet at all: instead of changing to
# UCS-2, which it does for what it cannot encode, it sends the septet of the paragraph sign,
# and takes that sign itself, which is in the alphabet, for one that is not.
#
# Seen: smpplib 2.2.4, six 1.17.0, decoded by gsm0338 1.1.0 and counted by smsutil 1.1.3, on
# Python 3.11.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/pip" install --quiet smpplib==2.2.4 six==1.17.0 gsm0338==1.1.0 \
    smsutil==1.1.3

cat >"$work/parts.py" <<'PYTHON'
import gsm0338
import smsutil
from smpplib import consts, gsm

HEADER = 6  # octets of the user data header of each part
codec = gsm0338.Codec()


def decoded(part):
    return codec.decode(part)[0]


text = "x" * 150 + "1 € a month" + "x" * 144
parts, encoding, _ = gsm.make_parts(text)
assert encoding == consts.SMPP_ENCODING_DEFAULT
first, second = (part[HEADER:] for part in parts)
print("the first ends with the escape:", first.endswith(b"\x1b"))
print("the second begins with:", decoded(second)[:9])
print("parts:", len(parts), "and where the two are kept together:", len(smsutil.split(text).parts))

parts, encoding, _ = gsm.make_parts("`")
print("a grave accent arrives as:", decoded(parts[0]))
parts, encoding, _ = gsm.make_parts("§")
print("a paragraph sign is sent as UCS-2:", encoding == consts.SMPP_ENCODING_ISO10646)
PYTHON

"$work/environment/bin/python" "$work/parts.py" | tee "$work/seen"
diff "$work/seen" - <<'SEEN'
the first ends with the escape: True
the second begins with: e a month
parts: 2 and where the two are kept together: 3
a grave accent arrives as: §
a paragraph sign is sent as UCS-2: True
SEEN
echo "as it was seen"
