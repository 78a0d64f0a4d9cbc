"""Tokens of a corpus, encoded once and memory-mapped from then on, whatever their number."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.loss import IGNORED
from kexue_cli.tasks.gpt2.texts import TextSource
from kexue_cli.tasks.gpt2.tokenizers import Tokenizer

FORMAT = 2
EXAMPLES = 8  # unknown characters to be shown
SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Batch:
    """Windows of text, each (row, time); `documents` numbers documents, None if there is one."""

    inputs: torch.Tensor
    targets: torch.Tensor
    documents: torch.Tensor | None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        documents = None if self.documents is None else self.documents.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), documents)


@dataclass(frozen=True)
class Tokens:
    """One split: token ids one after another, where documents start, and what text they are.

    `characters` and `bytes` are those of the text that the tokens spell. `unknown` counts what the
    vocabulary does not have: characters that are left out, or words that became [UNK];
    `unknown_share` is their share of all characters, or of the tokens. `examples` are some.
    """

    ids: NDArray[Any]
    starts: NDArray[np.int64]
    characters: int
    bytes: int
    unknown: int = 0
    unknown_share: float = 0.0
    examples: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, n: int) -> Tokens:
        """The first n tokens; sizes of the text in proportion."""
        n = min(n, len(self.ids))
        share = n / max(len(self.ids), 1)
        starts = self.starts[self.starts < n]
        return replace(
            self,
            ids=self.ids[:n],
            starts=starts,
            characters=round(self.characters * share),
            bytes=round(self.bytes * share),
            unknown=round(self.unknown * share),
        )

    @property
    def targets(self) -> int:
        """Tokens that can be predicted: all but the first of each document."""
        starts = np.unique(self.starts)
        return len(self.ids) - int((starts < len(self.ids)).sum())

    def batch(self, starts: NDArray[np.int64], time: int) -> Batch:
        """Windows of `time` + 1 tokens from `starts` (row,).

        A token that begins a document is never a target: nothing before it belongs to it.
        """
        places = starts[:, None] + np.arange(time + 1)  # (row, time + 1)
        windows = torch.from_numpy(self.ids[places].astype(np.int64))
        inputs, targets = windows[:, :-1], windows[:, 1:]
        if len(self.starts) <= 1:
            return Batch(inputs, targets.contiguous(), None)
        documents = torch.from_numpy(np.searchsorted(self.starts, places, side="right"))
        if bool((documents[:, 0] == documents[:, -1]).all()):
            return Batch(inputs, targets.contiguous(), None)
        crosses = documents[:, 1:] != documents[:, :-1]
        return Batch(inputs, targets.masked_fill(crosses, IGNORED), documents[:, :-1])


def pack(source: TextSource, tokenizer: Tokenizer, cache: Path) -> Path:
    """The folder of packed tokens of this corpus and tokenizer, made now if it is not there."""
    key = hashlib.sha256(
        json.dumps([FORMAT, source.signature(), tokenizer.state()]).encode()
    ).hexdigest()[:24]
    folder = cache / "gpt2" / key
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".packing-"))
        try:
            _write(source, tokenizer, temporary)
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load(folder: Path) -> tuple[dict[str, Tokens], str]:
    """Both splits of a packed corpus, and the SHA-256 of their tokens."""
    meta = json.loads((folder / "meta.json").read_text())
    splits = {}
    for split in SPLITS:
        path = folder / f"{split}.bin"
        size = path.stat().st_size
        ids = np.memmap(path, meta["dtype"], mode="r") if size else np.empty(0, meta["dtype"])
        starts = np.load(folder / f"{split}_starts.npy")
        splits[split] = Tokens(ids, starts, **meta["texts"][split])
    return splits, meta["sha256"]


def check_splits(splits: dict[str, Tokens], source: TextSource, trains: bool) -> None:
    """Refuse a text that leaves nothing to train on, where `trains`, or nothing to score.

    Raises:
        UserError: names the files, the split and how they are divided.
    """
    for split, purpose in (("train", "to train on"), ("valid", "to score")):
        if splits[split].targets or (split == "train" and not trains):
            continue
        share = source.valid_fraction if split == "valid" else 1 - source.valid_fraction
        place = "last" if split == "valid" else "first"
        raise UserError(
            f"{source.name}: nothing {purpose}. The {place} {share:g} of the text (of a .jsonl, of "
            f"its documents) has {len(splits[split])} tokens, and a document's first is only read. "
            "Use more text, another data.valid_fraction, or a .txt file for a single document"
        )


def windows_per_epoch(n_tokens: int, time: int) -> int:
    """Windows of `time` + 1 tokens in one epoch; one is given up for the random offset.

    Raises:
        UserError: the text is shorter than one window.
    """
    if n_tokens < time + 2:
        raise UserError(
            f"the training text has {n_tokens:,} tokens, less than one context of {time} and its "
            "next token: use more text, or a smaller task.context"
        )
    return max(1, (n_tokens - 1) // time - 1)


def epoch_starts(count: int, time: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Starts of the windows of one epoch."""
    rng = np.random.default_rng([seed, epoch])
    offset = int(rng.integers(time)) if count > 1 else 0
    starts: NDArray[np.int64] = rng.permutation(count).astype(np.int64) * time + offset
    return starts


def training_batches(
    tokens: Tokens, time: int, rows: int, seed: int, first: int, rank: int = 0, ranks: int = 1
) -> Iterator[Batch]:
    """Batches of `rows` windows from number `first` on; each rank takes its own share.

    An epoch covers the text once in random order, from an offset of its own.
    """
    count = windows_per_epoch(len(tokens), time)
    epoch, starts = -1, np.empty(0, np.int64)
    position = first * rows * ranks
    while True:
        wanted = position + rank * rows + np.arange(rows)
        chosen = np.empty(rows, np.int64)
        for e in np.unique(wanted // count):
            if e != epoch:
                epoch, starts = int(e), epoch_starts(count, time, seed, int(e))
            here = wanted // count == e
            chosen[here] = starts[wanted[here] % count]
        yield tokens.batch(chosen, time)
        position += rows * ranks


def _write(source: TextSource, tokenizer: Tokenizer, folder: Path) -> None:
    dtype = "<u2" if tokenizer.vocab_size <= 1 << 16 else "<u4"
    several = source.document_count() > 1
    writers = {split: _Writer(folder, split, dtype, tokenizer, several) for split in SPLITS}
    for piece in source.pieces():
        writers[piece.split].add(piece.text, piece.starts)
    digest = hashlib.sha256()
    texts = {}
    for split, writer in writers.items():
        texts[split] = writer.close()
        digest.update(writer.digest.digest())
    meta = {"dtype": dtype, "texts": texts, "sha256": digest.hexdigest()}
    (folder / "meta.json").write_text(json.dumps(meta))


class _Writer:
    """Appends documents to one split's files."""

    def __init__(
        self, folder: Path, split: str, dtype: str, tokenizer: Tokenizer, several: bool
    ) -> None:
        self.folder, self.split, self.dtype, self.tokenizer = folder, split, dtype, tokenizer
        self.end = tokenizer.end_id() if several else None
        self.unknown_id = tokenizer.id_of("[UNK]")
        self.file: IO[bytes] = (folder / f"{split}.bin").open("wb")
        self.digest = hashlib.sha256()
        self.starts: list[int] = []
        self.length = self.characters = self.bytes = self.unknown = 0
        self.left_out = 0
        self.examples: set[str] = set()

    def add(self, text: str, starts: bool) -> None:
        """Encode some text; the document before it gets its end mark."""
        if starts:
            if self.length and self.end is not None:
                self._append(np.array([self.end]))
            self.starts.append(self.length)
        ids = self.tokenizer.encode(text)
        self._append(ids)
        left_out = self.tokenizer.left_out(text)
        self.left_out += len(left_out)
        self.characters += len(text) - len(left_out)
        self.bytes += len(text.encode()) - len(left_out.encode())
        if len(self.examples) < EXAMPLES:
            self.examples.update(left_out)
        if self.unknown_id is not None:
            self.unknown += int((ids == self.unknown_id).sum())

    def _append(self, ids: NDArray[np.int64]) -> None:
        data = ids.astype(self.dtype).tobytes()
        self.file.write(data)
        self.digest.update(data)
        self.length += len(ids)

    def close(self) -> dict[str, Any]:
        """Write where documents start; return the sizes of the text."""
        if self.length and self.end is not None:
            self._append(np.array([self.end]))
        self.file.close()
        np.save(self.folder / f"{self.split}_starts.npy", np.array(self.starts, np.int64))
        pieces = self.characters + self.left_out if self.left_out else self.length
        return {
            "characters": self.characters,
            "bytes": self.bytes,
            "unknown": self.left_out + self.unknown,
            "unknown_share": (self.left_out + self.unknown) / max(pieces, 1),
            "examples": "".join(sorted(self.examples)[:EXAMPLES]),
        }


def _put_in_place(temporary: Path, folder: Path) -> None:
    """Rename; another process may have packed the same text in the meantime."""
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise
