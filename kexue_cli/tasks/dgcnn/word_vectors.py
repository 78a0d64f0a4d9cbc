"""Word vectors from files of others, or trained on the questions' own texts.

Read: text of word2vec, GloVe and fastText (`word number number …`, with or without a first line
`words dimension`), word2vec's binary, and .npz with `words` and `vectors`.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.run.files import replacing
from kexue_cli.tasks.dgcnn.store import Store, only_one

Floats = NDArray[np.float32]
TRAIN = "train"
PROBE_BYTES = 1 << 16
NOT_IN_TEXT = bytes(set(range(32)) - set(b"\t\n\v\f\r"))  # raw numbers soon hold one of them


@dataclass(frozen=True)
class WordVectors:
    """Word i has the vector i: `vectors` is (words, dimension) float32."""

    words: list[str]
    vectors: Floats


@dataclass(frozen=True)
class Wanted:
    """Which vectors: `place` is a file or "train"; the rest is how they are trained.

    The training is that of kexue.fm 5409: skip-gram, window 5, 8 negatives, 8 epochs, 128 numbers.
    """

    place: str
    dim: int | None = None  # of a file: what it must be; trained: 128 by default
    min_count: int = 5
    window: int = 5
    negative: int = 8
    epochs: int = 8
    seed: int = 0


def load(wanted: Wanted, console: Any) -> WordVectors | None:
    """The vectors of a file; None if they are to be trained.

    Raises:
        UserError: the file is missing or malformed: wrong width, a word twice, not a number, or a
            dimension other than the wanted one.
    """
    if wanted.place == TRAIN:
        return None
    found = read(Path(wanted.place))
    n, dim = found.vectors.shape
    if wanted.dim is not None and dim != wanted.dim:
        raise UserError(f"{wanted.place}: the vectors have {dim} numbers, expected {wanted.dim}")
    console.say(f"{wanted.place}: {n} word vectors of {dim} numbers")
    return found


def read(path: Path) -> WordVectors:
    """The vectors of a file of any of the forms."""
    try:
        if path.suffix == ".npz":
            found = read_npz(path)
        else:
            with path.open("rb") as file:
                found = read_binary(file, path) if is_binary(file) else read_text(file, path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    if not found.vectors.size:
        raise UserError(f"{path}: holds no vectors")
    refuse_duplicates(found.words, path)
    bad = ~np.isfinite(found.vectors).all(axis=1)
    if bad.any():
        word = found.words[int(np.argmax(bad))]
        raise UserError(f"{path}: the vector of {word!r} holds a value that is not finite")
    return found


def refuse_duplicates(words: Sequence[str], path: Path) -> None:
    """Raise a UserError if a word comes twice."""
    seen: dict[str, int] = {}
    for number, word in enumerate(words, start=1):
        if word in seen:
            raise UserError(
                f"{path}: the word {word!r} has two vectors, the {seen[word]}. and the {number}.; "
                "delete one of them"
            )
        seen[word] = number


def is_binary(file: BinaryIO) -> bool:
    """Whether this is word2vec's binary form: a head, a word, a blank, then raw numbers."""
    probe = file.read(PROBE_BYTES)
    file.seek(0)
    head, _, body = probe.partition(b"\n")
    fields = head.split()
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return False
    return body.translate(None, NOT_IN_TEXT) != body


def read_binary(file: BinaryIO, path: Path) -> WordVectors:
    """The form of word2vec -binary 1 (also without a line feed after each vector)."""
    n_words, dim = map(int, file.readline().split())
    if dim < 1:
        raise UserError(f"{path}: its head promises vectors of no numbers")
    room = os.fstat(file.fileno()).st_size // max(1, 4 * dim)  # the head may promise too much
    words, rows = [], np.empty((min(n_words, room), dim), np.float32)
    for i in range(n_words):
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b""):
            word += byte
        content = file.read(4 * dim)
        if len(content) < 4 * dim:
            raise UserError(f"{path}: ends within vector {i + 1} of {n_words} ({dim} numbers each)")
        rows[i] = np.frombuffer(content, "<f4")
        words.append(bytes(word).lstrip(b"\n").decode("utf-8", "replace"))
    if file.read(PROBE_BYTES).strip():
        raise UserError(f"{path}: goes on after the {n_words} vectors that its head promises")
    return WordVectors(words, rows)


def read_text(file: BinaryIO, path: Path) -> WordVectors:
    """The text forms; a head line gives the number of words and their width."""
    words: list[str] = []
    rows: list[Floats] = []
    promised, width = None, None
    for number, line in enumerate(file, start=1):
        fields = text_fields(line, path, number)
        if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
            promised, width = map(int, fields)
            continue
        if not fields:
            continue
        width = len(fields) - 1 if width is None else width
        # A word may itself hold blanks, as some of GloVe's do.
        word, numbers = " ".join(fields[: len(fields) - width]), fields[len(fields) - width :]
        try:
            with np.errstate(over="ignore"):  # what is too large is refused as not finite
                row = np.array(numbers, np.float64).astype(np.float32)
        except ValueError:
            row = np.zeros(0, np.float32)
        if not word or len(row) != width or (" " in word and is_number(word.split(" ")[-1])):
            raise UserError(
                f"{path}, line {number}: expected a word and {width} numbers, found "
                f"{len(fields)} fields: {' '.join(fields)[:50]!r}"
            )
        words.append(word)
        rows.append(row)
    if promised is not None and promised != len(words):
        raise UserError(
            f"{path}: its head promises {promised} vectors, {len(words)} follow; "
            "fetch the file again, or mend the head"
        )
    return WordVectors(words, np.array(rows, np.float32).reshape(len(rows), width or 0))


def is_number(field: str) -> bool:
    """Whether it could be one of a vector's."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def text_fields(line: bytes, path: Path, number: int) -> list[str]:
    """Fields between blanks or tabs; other kinds of white space belong to words."""
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}, line {number}: not UTF-8; save the file as UTF-8") from error
    return [field for field in text.strip(" \t\r\n").replace("\t", " ").split(" ") if field]


def read_npz(path: Path) -> WordVectors:
    """.npz with `words` (n,) texts and `vectors` (n, dimension)."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            words, vectors = content["words"], content["vectors"]
    except (ValueError, KeyError, EOFError, TypeError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: expected arrays `words` (texts) and `vectors` (numbers): {error}"
        ) from error
    fits = vectors.ndim == 2 and words.shape == (len(vectors),)
    if not fits or words.dtype.kind != "U" or vectors.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: expected words (n,) of texts and vectors (n, dimension), found "
            f"{words.shape} {words.dtype} and {vectors.shape}"
        )
    return WordVectors([str(word) for word in words], vectors.astype(np.float32))


class Sentences:
    """Words of every distinct text of stores, again and again; `meter` counts the questions."""

    def __init__(self, stores: Sequence[Store], meter: Any) -> None:
        self.stores, self.meter = stores, meter

    def __iter__(self) -> Iterator[list[str]]:
        seen: set[int] = set()  # hashes: retrieved passages come with many questions
        for store in self.stores:
            for i in range(len(store)):
                raw = store.raw(i)
                bounds = np.cumsum(raw.lengths)[:-1]
                rows = zip(np.split(raw.words, bounds), np.split(raw.begins, bounds), strict=True)
                for words, begins in rows:
                    numbers = words[begins > 0]
                    if (key := hash(numbers.tobytes())) not in seen:
                        seen.add(key)
                        yield [store.words[number] for number in numbers]
                self.meter.advance()


def train(wanted: Wanted, stores: Sequence[Store], cache_dir: Path, console: Any) -> WordVectors:
    """Skip-gram vectors of the stores' own words, from the cache if they have been made before.

    One thread, so that the same texts give the same vectors.
    """
    name = repr((wanted, sorted(store.folder.name for store in stores)))
    key = hashlib.sha256(name.encode()).hexdigest()[:32]
    path = cache_dir / "dgcnn" / f"vectors-{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_one(path.with_suffix(".lock")):
        if not path.is_file():
            passes = wanted.epochs + 1  # the first counts the words
            total = passes * sum(map(len, stores))
            with console.progress(total, "word vectors", "questions") as meter:
                save(path, skip_gram(wanted, Sentences(stores, meter)))
    found = read_npz(path)
    console.say(f"{len(found.words)} word vectors of {found.vectors.shape[1]} numbers ({path})")
    return found


def skip_gram(wanted: Wanted, sentences: Sentences) -> WordVectors:
    """Vectors by gensim."""
    gensim = require("gensim.models", extra="dgcnn")
    try:
        model = gensim.Word2Vec(
            sentences,
            vector_size=wanted.dim or 128,
            window=wanted.window,
            negative=wanted.negative,
            epochs=wanted.epochs,
            min_count=wanted.min_count,
            seed=wanted.seed,
            sg=1,
            workers=1,
        )
    except RuntimeError as error:  # gensim: "you must first build vocabulary"
        raise UserError(
            f"word vectors cannot be trained on so few texts: no word comes {wanted.min_count} "
            "times; choose none, or a file"
        ) from error
    return WordVectors(list(model.wv.index_to_key), model.wv.vectors.astype(np.float32))


def save(path: Path, vectors: WordVectors) -> None:
    """Write them as .npz."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, words=np.array(vectors.words, dtype=np.str_), vectors=vectors.vectors)
