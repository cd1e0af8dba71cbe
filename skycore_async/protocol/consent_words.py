"""The words with which people ask for no more messages, or for messages again.

Sources: `FCC` is 47 CFR 64.1200(a)(10), in force since April 2025, which also lets people
revoke by any other reasonable means; `CTIA` its Messaging Principles; `AWS` the keywords
that AWS End User Messaging takes where law asks for it; `BRONTO` the words of Bronto's
short codes by language; `WORD` the plain word for it in that language, by the dictionary.

Words are listed as `plain` returns them: without case, accents and punctuation.
"""

from __future__ import annotations

import unicodedata
from typing import Final

Words = tuple[str, ...]

_FCC: Final = "FCC"
_CTIA: Final = "CTIA"
_AWS: Final = "AWS"
_BRONTO: Final = "BRONTO"
_WORD: Final = "WORD"

# Words that can hardly mean anything else, anywhere in a text.
_STRONG: Final = (
    ("stop", "English and most others", _FCC),
    ("stop all", "English", _CTIA),
    ("stopall", "English", _CTIA),
    ("unsubscribe", "English", _FCC),
    ("unsub", "English", _WORD),
    ("opt out", "English", _FCC),
    ("optout", "English", _AWS),
    ("stopp", "German, Norwegian, Swedish", _BRONTO),
    ("abmelden", "German", _WORD),
    ("abbestellen", "German", _WORD),
    ("afmelden", "Dutch", _WORD),
    ("avregistrera", "Swedish", _WORD),
    ("avmeld", "Norwegian", _WORD),
    ("afmeld", "Danish", _WORD),
    ("desabonner", "French", _WORD),
    ("desinscrire", "French", _WORD),
    ("desinscription", "French", _WORD),
    ("desuscribir", "Spanish", _WORD),
    ("darme de baja", "Spanish", _WORD),
    ("dar de baja", "Spanish", _WORD),
    ("descadastrar", "Portuguese", _WORD),
    ("disiscrivimi", "Italian", _WORD),
    ("wypisz", "Polish", _WORD),
    ("odhlasit", "Czech, Slovak", _WORD),
    ("стоп", "Russian, Ukrainian", _WORD),
    ("отписаться", "Russian", _WORD),
    ("отписка", "Russian", _WORD),
    ("στοπ", "Greek", _WORD),
    ("הסר", "Hebrew", _WORD),
    ("退订", "Chinese", _WORD),
    ("退訂", "Chinese", _WORD),
    ("配信停止", "Japanese", _WORD),
    ("수신거부", "Korean", _WORD),
)
# Words that mean it alone, and may mean something else in a sentence.
_ALONE: Final = (
    ("cancel", "English", _FCC),
    ("end", "English", _FCC),
    ("quit", "English", _FCC),
    ("revoke", "English", _FCC),
    ("remove", "English", _AWS),
    ("remove me", "English", _WORD),
    ("td", "Chinese, in Latin letters", _AWS),
    ("arret", "French", _AWS),
    ("arreter", "French", _WORD),
    ("arretez", "French", _WORD),
    ("arrete", "French", _WORD),
    ("baja", "Spanish", _WORD),
    ("alto", "Spanish", _WORD),
    ("cancelar", "Spanish, Portuguese", _WORD),
    ("detener", "Spanish", _WORD),
    ("parar", "Portuguese, Spanish", _WORD),
    ("salir", "Spanish", _WORD),
    ("sair", "Portuguese", _WORD),
    ("basta", "Italian, Spanish", _WORD),
    ("cancella", "Italian", _WORD),
    ("annulla", "Italian", _WORD),
    ("halt", "German", _WORD),
    ("beenden", "German", _WORD),
    ("stoppen", "Dutch, German", _WORD),
    ("uit", "Dutch", _WORD),
    ("avsluta", "Swedish", _WORD),
    ("avslutt", "Norwegian", _WORD),
    ("lopeta", "Finnish", _WORD),
    ("zrusit", "Czech, Slovak", _WORD),
    ("rezygnuje", "Polish", _WORD),
    ("ret", "Turkish", _WORD),
    ("iptal", "Turkish", _WORD),
    ("dur", "Turkish", _WORD),
    ("отмена", "Russian", _WORD),
    ("rete", "Haitian Creole", _WORD),
    ("kanpe", "Haitian Creole", _WORD),
    ("berhenti", "Indonesian, Malay", _WORD),
    ("ngung", "Vietnamese", _WORD),
    ("hinto", "Tagalog", _WORD),
    ("tigil", "Tagalog", _WORD),
    ("توقف", "Arabic", _WORD),
    ("إيقاف", "Arabic", _WORD),
    ("إلغاء", "Arabic", _WORD),
    ("बंद", "Hindi", _WORD),
    ("रोकें", "Hindi", _WORD),
    ("停止", "Chinese, Japanese", _WORD),
    ("取消", "Chinese", _WORD),
    ("ストップ", "Japanese", _WORD),
    ("중지", "Korean", _WORD),
    ("หยุด", "Thai", _WORD),
    ("ยกเลิก", "Thai", _WORD),
)
_AGAIN: Final = (("start", "English", _CTIA), ("unstop", "English", _CTIA))

# Courtesies around it, which add no meaning.
_COURTESIES: Final = """
please pls plz plse kindly just now immediately asap already thanks thank you thx ty tks tnx
cheers hi hello hey dear sir madam maam ok okay
por favor gracias ya bitte danke jetzt svp stp sil vous plait te merci per piacere grazie obrigado
obrigada alstublieft aub bedankt tack takk tak prosze dziekuje lutfen пожалуйста спасибо
请 请你 謝謝 谢谢
"""


# Words about messages: alone, for what is sent, and around both.
_TEXTS: Final = "text texts texting txt txts txting message messages messaging msg msgs sms"
_WHAT_IS_SENT: Final = """
sending contacting spamming spam bothering reminders notifications alerts ads promos promotions
promotional marketing updates offers
"""
_BESIDES: Final = """
me us my our this these those that the all any more your you number phone from to on of anymore
again ever send contact reminder notification alert ad promo promotion update offer list lists
mailing subscription in future with for receiving getting
"""
_MESSAGES: Final = frozenset(_TEXTS.split())
_SENT: Final = _MESSAGES.union(_WHAT_IS_SENT.split())
AROUND_MESSAGES: Final = _SENT.union(_BESIDES.split())
_ME: Final = frozenset({"me", "us", "my", "our", "from", "of"})
_SEND: Final = _MESSAGES | {"contact", "spam"}
# The beginnings of a request, and which of the words above it must have besides.
REQUESTS: Final[tuple[tuple[Words, frozenset[str]], ...]] = (
    (("stop",), _SENT),
    (("quit",), _SENT),
    (("cease",), _SENT),
    (("cancel",), _MESSAGES),
    (("end",), _MESSAGES),
    (("unsubscribe",), _ME),
    (("unsub",), _ME),
    (("opt", "out"), _ME),
    (("opt", "me", "out"), frozenset()),
    (("remove", "me"), frozenset()),
    (("remove", "my", "number"), frozenset()),
    (("take", "me", "off"), frozenset()),
    (("do", "not"), _SEND),
    (("dont",), _SEND),
    (("never",), _SEND),
    (("no", "more"), _SENT),
)
# Words that may come before it, and ask no question that needs an answer.
ASKING: Final[tuple[Words, ...]] = (
    ("i", "want", "to"),
    ("i", "would", "like", "to"),
    ("id", "like", "to"),
    ("i", "wish", "to"),
    ("need", "to"),
    ("can", "you"),
    ("could", "you"),
    ("would", "you"),
    ("will", "you"),
)


def plain(text: str) -> str:
    """Return a text without case, width, accents, marks and apostrophes."""
    apart = unicodedata.normalize("NFKD", text).casefold()
    letters = "".join(
        character
        for character in unicodedata.normalize("NFKD", apart)
        if unicodedata.category(character) not in {"Mn", "Mc", "Me", "Cf"}
        and character not in "'\u2018\u2019\u02bc`"
    )
    return unicodedata.normalize("NFKC", letters)  # so that Korean is in syllables again


def _phrases(rows: tuple[tuple[str, str, str], ...]) -> frozenset[Words]:
    return frozenset(tuple(plain(words).split()) for words, _, _ in rows)


STRONG: Final = _phrases(_STRONG)
ALONE: Final = _phrases(_ALONE)
AGAIN: Final = _phrases(_AGAIN)
COURTESIES: Final = frozenset(plain(_COURTESIES).split())
# Words in scripts without spaces between words: searched for in the text.
UNSPACED: Final = tuple(
    plain(words)
    for words, language, _ in (*_STRONG, *_ALONE)
    if language in {"Chinese", "Japanese", "Chinese, Japanese", "Korean", "Thai"}
)
# Words that may mean it anywhere in a text.
UNCLEAR: Final[tuple[Words, ...]] = (
    *sorted(STRONG),
    ("cancel",),
    ("revoke",),
    ("take", "me", "off"),
    ("remove", "me"),
    ("remove", "my"),
    ("wrong", "number"),
    ("no", "more"),
    ("leave", "me", "alone"),
    *((*no, verb) for no in (("dont",), ("do", "not"), ("never",)) for verb in (*_SEND, "send")),
)
