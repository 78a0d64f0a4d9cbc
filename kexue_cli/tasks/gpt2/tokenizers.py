"""Text to token ids and back: WordPiece, byte-level BPE, characters; reading, training, saving."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.gpt2.wordpiece_text import joined

WORDPIECE_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 200  # characters; longer words are unknown, as in BERT's own code
END_OF_TEXT = "<|endoftext|>"
OWN_FILE = "kexue_tokenizer.json"


class Tokenizer(Protocol):
    """What the task needs of a tokenizer; `kind` is char, wordpiece or bpe."""

    kind: str

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""

    def encode(self, text: str) -> NDArray[np.int64]:
        """Token ids; characters that a character vocabulary lacks are left out."""

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids."""

    def unknown(self, text: str) -> int:
        """How many pieces of `text` the vocabulary does not have."""

    def left_out(self, text: str) -> str:
        """The characters of `text` that `encode` leaves out."""

    def id_of(self, token: str) -> int | None:
        """Id of a token as the vocabulary writes it; None if there is none."""

    def end_id(self) -> int | None:
        """Id of the mark that ends a document; None if the vocabulary has no such mark."""

    def state(self) -> dict[str, str]:
        """Everything `from_state` needs, as strings."""


class CharTokenizer:
    """One id per character, in order of code points; `end` adds a mark for document ends."""

    kind = "char"

    def __init__(self, characters: str, end: bool = False) -> None:
        self.characters = characters
        self.has_end = end
        self._ids = np.full(0x110000, -1, np.int64)
        self._ids[_code_points(characters)] = np.arange(len(characters))

    @classmethod
    def of_texts(cls, texts: Iterable[str], end: bool = False) -> CharTokenizer:
        """The vocabulary of all characters that occur."""
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        return cls("".join(sorted(seen)), end)

    @property
    def vocab_size(self) -> int:
        """Characters and the end mark."""
        return len(self.characters) + self.has_end

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids of the known characters."""
        ids = self._ids[_code_points(text)]
        return ids[ids >= 0]

    def decode(self, ids: Iterable[int]) -> str:
        """The characters; end marks are left out."""
        return "".join(self.characters[i] for i in ids if i < len(self.characters))

    def unknown(self, text: str) -> int:
        """Characters outside the vocabulary."""
        return len(self.left_out(text))

    def left_out(self, text: str) -> str:
        """Characters outside the vocabulary, in order and with repeats."""
        points = _code_points(text)
        return points[self._ids[points] < 0].tobytes().decode("utf-32-le", "surrogatepass")

    def id_of(self, token: str) -> int | None:
        """Id of one character."""
        index = self.characters.find(token) if len(token) == 1 else -1
        return index if index >= 0 else None

    def end_id(self) -> int | None:
        """Id after the last character, if there is an end mark."""
        return len(self.characters) if self.has_end else None

    def state(self) -> dict[str, str]:
        """Kind and characters."""
        return {"kind": "char_end" if self.has_end else "char", "content": self.characters}


class SubwordTokenizer:
    """WordPiece or byte-level BPE by the `tokenizers` library."""

    def __init__(self, inner: Any, kind: str) -> None:
        self.inner = inner
        self.kind = kind

    @property
    def vocab_size(self) -> int:
        """All ids, added tokens included."""
        return int(self.inner.get_vocab_size())

    def encode(self, text: str) -> NDArray[np.int64]:
        """Ids without [CLS] and [SEP] around them."""
        return np.array(self.inner.encode(text, add_special_tokens=False).ids, np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Text; WordPiece by the rules of `wordpiece_text`, without special tokens."""
        if self.kind == "bpe":
            return str(self.inner.decode([int(i) for i in ids], skip_special_tokens=True))
        return joined([self.inner.id_to_token(int(i)) or "[UNK]" for i in ids])

    def unknown(self, text: str) -> int:
        """Words the vocabulary cannot spell: [UNK]; byte-level BPE spells everything."""
        unknown = self.id_of("[UNK]")
        return 0 if unknown is None else int((self.encode(text) == unknown).sum())

    def left_out(self, text: str) -> str:
        """Nothing: what WordPiece cannot spell becomes [UNK]."""
        return ""

    def id_of(self, token: str) -> int | None:
        """Id of a token."""
        found = self.inner.token_to_id(token)
        return None if found is None else int(found)

    def end_id(self) -> int | None:
        """Id of <|endoftext|> or [SEP]."""
        end = self.id_of(END_OF_TEXT)
        return self.id_of("[SEP]") if end is None else end

    def state(self) -> dict[str, str]:
        """Kind and tokenizer.json."""
        return {"kind": self.kind, "content": self.inner.to_str()}


def from_state(state: dict[str, str]) -> Tokenizer:
    """The tokenizer that gave this `state`."""
    if state["kind"].startswith("char"):
        return CharTokenizer(state["content"], end=state["kind"] == "char_end")
    library = require("tokenizers", extra="gpt2")
    return SubwordTokenizer(library.Tokenizer.from_str(state["content"]), state["kind"])


def wordpiece(vocabulary: str | Path) -> SubwordTokenizer:
    """BERT's tokenizer (lower-case, accents stripped, Chinese characters apart) of a vocab.txt."""
    library = require("tokenizers", extra="gpt2")
    path = Path(vocabulary)
    ids = {token: i for i, token in enumerate(_lines(path))}
    if "[UNK]" not in ids:
        raise UserError(f"{path} has no [UNK]: it is no WordPiece vocabulary")
    inner = library.Tokenizer(
        library.models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD)
    )
    _set_bert_rules(library, inner)
    return SubwordTokenizer(inner, "wordpiece")


def from_folder(folder: Path) -> Tokenizer | None:
    """The tokenizer beside some weights: tokenizer.json, vocab.json + merges.txt, vocab.txt."""
    own = folder / OWN_FILE
    if own.exists():
        return from_state(json.loads(own.read_text(encoding="utf-8")))
    if (folder / "vocab.txt").exists():
        return wordpiece(folder / "vocab.txt")
    library = require("tokenizers", extra="gpt2")
    if (folder / "tokenizer.json").exists():
        inner = library.Tokenizer.from_file(str(folder / "tokenizer.json"))
        kind = "wordpiece" if type(inner.model).__name__ == "WordPiece" else "bpe"
        return SubwordTokenizer(inner, kind)
    if (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        return byte_bpe(folder / "vocab.json", folder / "merges.txt")
    return None


def byte_bpe(vocabulary: Path, merges: Path) -> SubwordTokenizer:
    """GPT-2's byte-level BPE of its two files."""
    library = require("tokenizers", extra="gpt2")
    model = library.models.BPE.from_file(str(vocabulary), str(merges))
    inner = library.Tokenizer(model)
    _set_byte_rules(library, inner)
    if inner.token_to_id(END_OF_TEXT) is not None:
        inner.add_special_tokens([END_OF_TEXT])
    return SubwordTokenizer(inner, "bpe")


def train(kind: str, texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer learnt from `texts`: byte-level BPE with <|endoftext|>, or WordPiece."""
    library = require("tokenizers", extra="gpt2")
    if kind == "bpe":
        inner = library.Tokenizer(library.models.BPE())
        _set_byte_rules(library, inner)
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=alphabet,
            show_progress=False,
        )  # fmt: skip
    else:
        inner = library.Tokenizer(library.models.WordPiece(unk_token="[UNK]"))
        _set_bert_rules(library, inner)
        trainer = library.trainers.WordPieceTrainer(
            vocab_size=vocab_size, special_tokens=list(WORDPIECE_SPECIALS), show_progress=False
        )
    inner.train_from_iterator(texts, trainer)
    return SubwordTokenizer(inner, kind)


def _set_bert_rules(library: Any, inner: Any) -> None:
    inner.normalizer = library.normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
    )
    inner.pre_tokenizer = library.pre_tokenizers.BertPreTokenizer()


def _set_byte_rules(library: Any, inner: Any) -> None:
    inner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = library.decoders.ByteLevel()


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"vocabulary {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise UserError(f"vocabulary {path} is not UTF-8: {error}") from error
