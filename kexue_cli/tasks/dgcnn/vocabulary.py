"""Characters and their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

PAD, UNKNOWN, FIRST = 0, 1, 2
N_CODE_POINTS = 0x110000


class Vocabulary:
    """Ids of characters: 0 pads, 1 is any other character, the rest from 2.

    `characters` are in the order of their ids.
    """

    def __init__(self, characters: str) -> None:
        if len(set(characters)) != len(characters):
            raise ValueError("the characters of a vocabulary must differ")
        self.characters = characters
        self._id_of_code = np.full(N_CODE_POINTS, UNKNOWN, np.uint32)
        self._id_of_code[codes(characters)] = np.arange(FIRST, FIRST + len(characters))

    def __len__(self) -> int:
        """Number of ids: characters, padding and unknown."""
        return FIRST + len(self.characters)

    @classmethod
    def of_counts(cls, counts: Counter[str], min_count: int = 16) -> Vocabulary:
        """Characters met at least `min_count` times, most frequent first (kexue.fm 6906)."""
        kept = [(-n, character) for character, n in counts.items() if n >= min_count]
        return cls("".join(character for _, character in sorted(kept)))

    @classmethod
    def of_texts(cls, texts: Iterable[str], min_count: int = 16) -> Vocabulary:
        """The same, counting over texts."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        return cls.of_counts(counts, min_count)

    def encode(self, text: str) -> NDArray[np.uint32]:
        """Ids of the characters, (length,)."""
        return self._id_of_code[codes(text)]


def codes(text: str) -> NDArray[np.uint32]:
    """Code points, (length,); also of the unpaired surrogates that JSON may hold."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32)
