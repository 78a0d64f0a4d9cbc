"""Penn Treebank words of the runs between Chinese characters, as the CMRC 2018 scorer cuts them.

That scorer calls NLTK 3.7's `word_tokenize`. Here are its word rules for lower-case text, which are
MacIntyre's Treebank conventions, and Punkt's sentence ends without its trained model: a stop ends
a sentence unless it follows a usual abbreviation, or an initial or number before lower case.
"""

from __future__ import annotations

import re

# Those that NLTK's English model knows too (it does not know e.g. or no.); of initials, the ones
# after which it lets a number follow.
ABBREVIATION_LIST = """
    adm ala ariz aug ave bros calif co col colo conn corp ct dec dr feb fla fri ft ga gen ill inc
    jan jr kan ky lt ltd maj messrs mg mich minn mr mrs ms nev nov oct ok okla ore pa ph.d prof rep
    sen sep sept sr st tenn tues va vs vt wash wed wis yr a.a a.d a.m d.c j.c j.p j.r l.a n.c n.h
    n.j n.v n.y p.m r.i s.a s.c s.g u.k u.n u.s u.s.a u.s.s.r c d e f g h k l m n p r s t v w
"""
ABBREVIATIONS = frozenset(ABBREVIATION_LIST.split())
# The stop, and what shows that a token ends with it: white space before more text, or punctuation.
SENTENCE_END = re.compile(r"(?P<word>\S*?)[.?!](?:\s+(?=\S)|(?=[?!)\";}\]*:@'({\[]))")
CLOSING = re.compile(r"[\"')\]}]+(?:\s+|$)")
DASHES_OR_DOTS = re.compile(r"-{2,}|\.{2,}")
# A token of Punkt's at the end of a word: the left class cannot begin it, the right one ends it.
LAST_TOKEN = re.compile(r"[^(\"`{\[:;&#*@)}\]\-,][^?!)\";}\]*:@'({\[]*$")
INITIAL_OR_NUMBER = re.compile(r"[^\W\d]|[.,]?\d[\d,.]*")
LAST_STOP = re.compile(r"([^.])\.([\])}>\"'»”’ ]*)\s*$")
CLITICS = [re.compile(r"([^' ])('s|'m|'d|') "), re.compile(r"([^' ])('ll|'re|'ve|n't) ")]

RULES = [
    (re.compile(r"[«‘„“]|`+"), r" \g<0> "),
    (re.compile(r"^\""), " `` "),
    (re.compile(r"([ (\[{<])(?:\"|'')"), r"\1 `` "),
    (re.compile(r"'(?!re|ve|ll|[mtsdn])(\w)\b"), r"' \1"),
    (LAST_STOP, r"\1 . \2 "),
    # The character after a comma is used up, so that of two commas the second is not looked at.
    (re.compile(r"([:,])(\D)"), r" \1 \2"),
    (re.compile(r"[:,]$"), r" \g<0> "),
    (re.compile(r"\.{2,}|[;@#$%&]"), r" \g<0> "),
    (re.compile(r"[?!]"), r" \g<0> "),
    (re.compile(r"([^'])' "), r"\1 ' "),
    (re.compile(r"[*\[\](){}<>]|--"), r" \g<0> "),
]
"""In this order; each is tried on the outcome of those before."""
CONTRACTION = re.compile(
    r"(\bcan(?=not\b)|\bd(?='ye\b)|\bgim(?=me\b)|\bgon(?=na\b)|\bgot(?=ta\b)|\blem(?=me\b)|"
    r"\bmore(?='n\b)|\bwan(?=na\s)| 't(?=(?:is|was)\b))(not|'ye|me|na|ta|'n|is|was)"
)


def words(run: str) -> list[str]:
    """The words of a run of lower-case text."""
    return [word for sentence in sentences(run) for word in words_of_sentence(sentence)]


def sentences(run: str) -> list[str]:
    """Cut after sentence ends; closing quotes and brackets stay with the sentence they close."""
    found, start = [], 0
    for end in SENTENCE_END.finditer(run):
        if run[end.end("word")] == "." and goes_on(end["word"], run[end.end() :]):
            continue
        closing = CLOSING.match(run, end.end())
        stop = closing.end() if closing else end.end()
        found.append(run[start:stop].rstrip())
        start = stop
    return [*found, run[start:].rstrip()]


def goes_on(word: str, rest: str) -> bool:
    """Whether the stop between these is part of the word: an abbreviation, initial or number."""
    token = LAST_TOKEN.search(DASHES_OR_DOTS.split(word)[-1])
    bare = token.group() if token else ""
    if bare in ABBREVIATIONS:
        return True
    # After an initial or a number, lower case or punctuation shows that the sentence goes on.
    return INITIAL_OR_NUMBER.fullmatch(bare) is not None and (
        rest[:1].islower() or rest[:1] in tuple(";:,.!?")
    )


def words_of_sentence(sentence: str) -> list[str]:
    """Treebank words; straight double quotes become `` and ''."""
    for pattern, replacement in RULES:
        sentence = pattern.sub(replacement, sentence)
    sentence = re.sub("[»”’]|''", r" \g<0> ", f" {sentence} ").replace('"', " '' ")
    for pattern in CLITICS:
        sentence = pattern.sub(r"\1 \2 ", sentence)
    return CONTRACTION.sub(r" \1 \2 ", sentence).split()
