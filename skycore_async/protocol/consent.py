"""Whether a text from a handset asks for no more messages, for messages again, or is unclear.

Strategy: a text is cut into lines, sentences and words.  The first line or sentence, without
courtesies, is looked up in the tables of `consent_words`, or recognised as a request made only of
words about messages: `stop texting me`, `do not send me any more sms`.

Rules:

* Consent is surely revoked by the whole message, by its first line (above a signature) or, if the
  word can hardly mean anything else, by its first sentence.
* Any other text with such a word, and any question, is unclear: it is neither acted on nor
  dropped, so that a person can decide.
* Somebody wrongly opted out misses a message; somebody wrongly opted in is sent to after saying
  STOP.  So START is sure only if its line says nothing else.
* Only the beginning of a long text is read: no handset sends messages of that length.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from .consent_words import (
    AGAIN,
    ALONE,
    AROUND_MESSAGES,
    ASKING,
    COURTESIES,
    REQUESTS,
    STRONG,
    UNCLEAR,
    UNSPACED,
    Words,
    plain,
)


class Consent(enum.Enum):
    """What a text says about consent to messages."""

    REVOKED = enum.auto()
    GIVEN = enum.auto()
    UNCLEAR = enum.auto()


_LONGEST: Final = 4000  # characters that are read; ten segments have 1,530
_LINES: Final = re.compile(r"[\r\n\u2028\u2029\x0b\x0c\x85]+")
_END: Final = re.compile(r"([.!?;\u3002\u2026\u061f]+|\s[-\u2013\u2014]+\s|[-\u2013\u2014]{2,})")
_QUESTIONS: Final = frozenset("?\u061f")
_WORD: Final = re.compile(r"[^\W_]+")
_STOP_SIGN: Final = "\U0001f6d1"
# `stop` with more letters typed onto it, and `unsubscribe` with letters left out.
_LIKE_A_WORD: Final = re.compile(
    r"stop(?:p+|it|now|this|me|pls|please|te?xt\w*|sms|msgs?|[0-9]\w*)"
    r"|(?:un|de)su(?:b|s|bs)c?r?i[bp]?\w*|unsub\w{0,2}"
)
_FEW: Final = 3  # words, of which one may be meant in any place
_UNCLEAR: Final[dict[str, list[Words]]] = {}
for _phrase in UNCLEAR:
    _UNCLEAR.setdefault(_phrase[0], []).append(_phrase)


@attrs.frozen
class _Sentence:
    words: Words
    is_question: bool


def consent_in(text: str) -> Consent | None:
    """Return what a text says about consent, None if it is about something else."""
    text = text[:_LONGEST]
    lines = [list(_sentences(line)) for line in _LINES.split(plain(text))]
    lines = [line for line in lines if line]
    if not lines:
        return Consent.UNCLEAR if _STOP_SIGN in text else None
    first = next((line for line in lines if _core(_words(line))), lines[0])
    if _is_revoked(first):
        is_unsure = _says_start(first, [line for line in lines if line is not first])
        return Consent.UNCLEAR if is_unsure else Consent.REVOKED
    sentences = [sentence for line in lines for sentence in line]
    if _STOP_SIGN in text or _may_be_revoked(sentences):
        return Consent.UNCLEAR
    is_given = _core(_words(first)) in AGAIN and not _is_asked(first)
    return Consent.GIVEN if is_given else None


def _sentences(line: str) -> Iterator[_Sentence]:
    parts = [*_END.split(line), ""]
    for said, end in zip(parts[::2], parts[1::2], strict=True):
        if words := tuple(_WORD.findall(said)):
            yield _Sentence(words, not _QUESTIONS.isdisjoint(end))


def _words(sentences: Sequence[_Sentence]) -> Words:
    return tuple(word for sentence in sentences for word in sentence.words)


def _is_asked(sentences: Sequence[_Sentence]) -> bool:
    return any(sentence.is_question for sentence in sentences)


def _core(words: Words) -> Words:
    """Return the words without courtesies around them."""
    first, last = 0, len(words)
    while first < last and words[first] in COURTESIES:
        first += 1
    while first < last and words[last - 1] in COURTESIES:
        last -= 1
    return words[first:last]


def _is_revoked(line: Sequence[_Sentence]) -> bool:
    whole = _Sentence(_words(line), _is_asked(line))
    first = next((sentence for sentence in line if _core(sentence.words)), line[0])
    return _asks_for_no_more(whole, STRONG | ALONE) or _asks_for_no_more(first, STRONG)


def _asks_for_no_more(sentence: _Sentence, known: frozenset[Words]) -> bool:
    core = _core(sentence.words)
    if core in known or (len(set(core)) == 1 and core[:1] in known):
        return not sentence.is_question
    asking = next((start for start in ASKING if core[: len(start)] == start), ())
    if sentence.is_question and not asking:
        return False
    wanted = _core(core[len(asking) :])
    # `I want to stop` may be about smoking.
    return (bool(asking) and wanted in STRONG and wanted != ("stop",)) or _is_request(wanted)


def _is_request(words: Words) -> bool:
    for start, needed in REQUESTS:
        if words[: len(start)] == start:
            rest = [word for word in words[len(start) :] if word not in COURTESIES]
            if AROUND_MESSAGES.issuperset(rest) and not (needed and needed.isdisjoint(rest)):
                return True
    return False


def _says_start(first: Sequence[_Sentence], others: Sequence[Sequence[_Sentence]]) -> bool:
    return any((word,) in AGAIN for word in _words(first)) or any(
        _core(_words(line)) in AGAIN for line in others
    )


def _may_be_revoked(sentences: Sequence[_Sentence]) -> bool:
    words = _words(sentences)
    run_together = "".join(words)
    return (
        any(_LIKE_A_WORD.fullmatch(word) for word in words)
        or any(
            words[at : at + len(phrase)] == phrase
            for at, word in enumerate(words)
            for phrase in _UNCLEAR.get(word, ())
        )
        or (run_together,) in STRONG
        or any(word in run_together for word in UNSPACED)
        or any(_begins_so(_core(sentence.words)) for sentence in sentences)
        or (len(words) <= _FEW and any((word,) in ALONE for word in words))
    )


def _begins_so(words: Words) -> bool:
    return any(words[:size] in ALONE for size in (1, 2))
