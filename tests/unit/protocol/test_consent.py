"""What texts from handsets say of being sent to, in both directions."""

from __future__ import annotations

import time

from skycore_async.protocol import consent_words
from skycore_async.protocol.consent import Consent, consent_in

REVOKED = """
STOP|stop|Stop.|STOP!!|stop stop STOP|\u201cStop\u201d|stop\u00a0|\u200bSTOP\u200b|*STOP*
STOPALL|Stop all
\uff33\uff34\uff2f\uff30|\U0001d412\U0001d413\U0001d40e\U0001d40f|stop \U0001f6d1
\U0001f6d1 STOP \U0001f6d1|STOP \U0001f64f\U0001f3fd
Stop. Thank you|Stop, thanks|Please stop|STOP PLEASE|pls stop now|Ok stop
Hi. Stop please, thank you!
Stop. I am not interested|STOP - thanks|Unsubscribe. This is spam
Stop texting me|please stop sending text reminders|stop sms|STOP ALL TEXTS|Stop spamming me
stop ads
Stop sending me messages please|stop the reminders|quit texting me|cancel texts|end sms
Can you stop texting me?|could you please stop sending me messages?|you need to stop texting me
Don\u2019t text me anymore|dont message me again|Do not contact me|no more texts please
No more sms!
unsub|Unsubscribe|unsubscribe me|UNSUBSCRIBE me from this list|opt out|Opt-Out|OPTOUT|opt me out
I want to opt out|I would like to unsubscribe|remove me|Remove me from your list
take me off this list
remove my number|CANCEL|Cancel please|END|quit|Revoke.|REMOVE
ARR\u00caT|arret|Arr\u00eatez svp|BAJA|baja por favor|Alto|cancelar|SAIR|STOPP|Stopp bitte
Abmelden
\u0421\u0422\u041e\u041f|\u9000\u8ba2|\u9000\u8a02|TD|\u505c\u6b62\u3002\u8c22\u8c22
\uc218\uc2e0\uac70\ubd80|\u0625\u0644\u063a\u0627\u0621|\u0627\u0644\u063a\u0627\u0621
\u05d4\u05e1\u05e8|\u092c\u0902\u0926|\u0130PTAL|iptal
""".strip().replace("\n", "|")  # fmt: skip
LINES = [
    "STOP\n-- \nJohn Smith\nSent from my phone",
    "Hi,\r\nSTOP\r\nJohn",
    "\n\nstop\n\nOn Monday you wrote:\n> Reply STOP to end, START to resume",
    "CANCEL\nAnn",
    "STOP\u2028Ann",
]
GIVEN = """
START|start!|Start please|UNSTOP|unstop.|\uff33\uff34\uff21\uff32\uff34|Start. Thanks
"""
UNCLEAR = """
CANCEL my appointment|we have got to STOP this bill|STOP 12345|STOP PROMO|STO P|ST.OP|s.t.o.p.
stop it|stop me|don't stop|end?|STOP?|stopp it|stopit|STOP2END|The bus stop is closed
stop calling me
do not text me before 9am|don't send it|i want to stop|Can you stop by?|cancel my subscription
Cancel. My appointment is at 9|Please revoke my access|End of month|Quit smoking helps|unsubscibe
wrong number|leave me alone|Reply STOP to opt out|remove my old address|no more delays
\U0001f6d1|Yes \U0001f6d1
Start. stop|STOP START|Stop. Actually START|start and stop|\u8bf7\u505c\u6b62
quiero darme de baja ya mismo
no baja|baja mi cuenta
""".strip().replace("\n", "|")  # fmt: skip
UNRELATED = """
Hello|yes|no|Thanks|restart|Start the car|start?|start texting me again|I started|unstoppable
nonstop
I will be there at the end of the day|see you at the weekend
It is in the middle, at the end, as ever
haltestelle|The altogether best|para|uno, dos, tres y alto ahora|8|?|. . .|\U0001f600
""".strip().replace("\n", "|")  # fmt: skip

CASES = [
    *((text, Consent.REVOKED) for text in (*REVOKED.split("|"), *LINES)),
    *((text, Consent.GIVEN) for text in ("START\nJohn", *GIVEN.strip().split("|"))),
    *((text, Consent.UNCLEAR) for text in ("STOP\nSTART", *UNCLEAR.split("|"))),
    *((text, None) for text in ("", " ", "\n", *UNRELATED.split("|"))),
]


def test_a_text_is_an_opt_out_an_opt_in_unclear_or_neither() -> None:
    """Each text of the table is a clear opt-out or opt-in, unclear, or neither."""
    assert {text: consent_in(text) for text, _ in CASES} == dict(CASES)


def test_each_keyword_is_clear_where_it_stands_alone() -> None:
    """Each keyword is clear when it stands alone, and no keyword is in two tables."""
    for words, _, source in (*consent_words._STRONG, *consent_words._ALONE):
        for text in (words, words.upper(), f"{words}.", f"Please, {words}"):
            assert consent_in(text) is Consent.REVOKED, text
        assert source in str(consent_words.__doc__)
    tables = (consent_words.STRONG, consent_words.ALONE, consent_words.AGAIN)
    assert len(set().union(*tables)) == sum(map(len, tables))
    assert not any((word,) in set().union(*tables) for word in consent_words.COURTESIES)


def test_a_long_text_is_classified_in_little_time() -> None:
    """A text of a megabyte is classified in under a second."""
    for part in (
        "stop",
        "stop it ",
        "do not ",
        "\n",
        ". ",
        "- ",
        "s t o p ",
        "\u505c",
        "no more\n",
    ):
        began = time.perf_counter()
        consent_in(part * (1_000_000 // len(part)))
        assert time.perf_counter() - began < 1
