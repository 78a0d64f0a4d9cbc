"""What a question asks for, by its question words: simplified, traditional and English."""

from __future__ import annotations

import re

WORDS = {
    "why, how": "为什么 為什麼 为何 為何 为啥 怎么 怎麼 怎样 怎樣 如何 why",
    "when": (
        "什么时候 什麼時候 何时 何時 哪年 哪一年 哪个年 哪個年 哪月 哪天 哪一天 哪日 "
        "几年 幾年 几月 几日 when"
    ),
    "how many": "多少 几 幾 多大 多长 多長 多高 多远 多遠 多久 多重 多深",
    "who": "谁 誰 何人 哪位 哪一位 哪人 哪个人 什么人 who whom whose",
    "where": (
        "哪里 哪裡 哪裏 哪儿 那里 何处 何處 何地 在哪 什么地方 什麼地方 哪国 哪個國 哪个国 "
        "哪一国 哪省 哪个省 那个省 哪市 哪个市 哪个城市 哪座城市 哪个县 哪个洲 哪个地 where"
    ),
    "which": "哪 那个 那位 那本 那部 那种 which",
    "what": "什么 什麼 甚麼 何 啥 what",
}
"""Words of each type; the first type of which a word occurs counts."""
ENGLISH_NUMBER = r"\bhow (?:many|much|long|old|far|tall|deep|high)\b"


def pattern_of(words: str) -> re.Pattern[str]:
    """Any of the words; English ones stand by themselves, in any case."""
    parts = [rf"\b{word}\b" if word.isascii() else re.escape(word) for word in words.split()]
    return re.compile("|".join(parts), re.IGNORECASE)


PATTERNS = [
    ("how many", re.compile(ENGLISH_NUMBER, re.IGNORECASE)),
    *((name, pattern_of(words)) for name, words in WORDS.items()),
    ("why, how", pattern_of("how")),
]


def question_type(text: str) -> str:
    """One of the types, "other" if no word is found."""
    return next((name for name, pattern in PATTERNS if pattern.search(text)), "other")
