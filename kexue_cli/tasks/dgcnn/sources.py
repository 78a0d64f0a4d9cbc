"""Each source of questions encoded once, in a cache keyed by its content and what is done to it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn import store
from kexue_cli.tasks.dgcnn.encoding import TextSettings
from kexue_cli.tasks.dgcnn.problems import Problems, Rules
from kexue_cli.tasks.dgcnn.question_files import read_questions
from kexue_cli.tasks.dgcnn.records import Question
from kexue_cli.tasks.dgcnn.retrieval import Retriever, pieces_of
from kexue_cli.tasks.dgcnn.score_sogouqa import Accepted, read_answers
from kexue_cli.tasks.dgcnn.store import Store

Stream = Callable[[], Iterable[Question]]


@dataclass
class SourceOpener:
    """Opens sources as stores.

    Attributes:
        accepted: file of accepted answers, for files that tell only one per passage.
        fill_to: passages per question, the missing ones retrieved from the file's other questions
            and from `pool`, whose passages are cut into pieces of `pool_length` characters.
        problems: what was odd in all files opened so far.
    """

    text: TextSettings
    rules: Rules
    cache_dir: Path
    console: Any
    accepted: Path | None = None
    fill_to: int = 0
    pool: tuple[Path, ...] = ()
    pool_length: int = 200
    problems: Problems = field(default_factory=Problems)

    def open_file(self, path: Path, limit: int | None = None, fill_to: int | None = None) -> Store:
        """The questions of a file, at most `limit`; `fill_to` goes before that of the opener."""
        fill_to = self.fill_to if fill_to is None else fill_to
        problems = Problems()
        pool = self.pool if fill_to else ()
        inputs = [path, *pool, *([self.accepted] if self.accepted else [])]
        contents = [content_hash(p) for p in inputs]
        key = (path.name, limit, fill_to, self.pool_length, len(pool), *contents)

        def stream() -> Iterable[Question]:
            questions: Iterable[Question] = read_questions(path, self.rules, problems, limit)
            if self.accepted is not None:
                questions = with_accepted(questions, read_answers(self.accepted))
            if fill_to:
                questions = self._filled(list(questions), fill_to)
            return questions

        return self.open_stream(stream, key, path.name, lambda: problems, path)

    def open_stream(
        self,
        stream: Stream,
        key: tuple[Any, ...],
        name: str,
        problems: Callable[[], Problems],
        path: Path | None = None,
    ) -> Store:
        """Questions from anywhere; `key` names them, `path` is the file of their problems."""
        settings = (store.FORMAT, self.text.normalise, self.text.cutter.key, self.rules, *key)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:32]
        folder = self.cache_dir / "dgcnn" / digest
        if not (folder / "meta.json").is_file():
            self.console.say(f"{name}: encoding questions")
        with self.console.progress(None, "encoding", unit="questions") as meter:
            store.build(
                folder,
                lambda: counted(stream(), meter),
                self.text,
                lambda: {"problems": problems().as_dict()},
            )
        opened = Store(folder)
        found = Problems.from_dict(opened.facts["problems"])
        if path is not None:  # the cache may come from the same file in another folder
            found.listed = [(row[0], str(path), *row[2:]) for row in found.listed]
        for sentence in found.sentences():
            self.console.warn(sentence)
        self.problems.merge(found)
        return opened

    def _filled(self, questions: list[Question], fill_to: int) -> Iterable[Question]:
        own = (passage.text for question in questions for passage in question.passages)
        others = (
            piece
            for path in self.pool
            for question in read_questions(path, self.rules, Problems())
            for passage in question.passages
            for piece in pieces_of(passage.text, self.pool_length)
        )
        retriever = Retriever(dict.fromkeys([*own, *others]), self.text.normalise)
        return (retriever.fill(question, fill_to) for question in questions)


def content_hash(path: Path) -> str:
    """SHA-256 of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected a file of questions or answers. "
            "`kexue data` says where public sets come from"
        ) from error


def with_accepted(
    questions: Iterable[Question], accepted: dict[bytes, Accepted]
) -> Iterable[Question]:
    """Questions with the accepted answers of a file, the standard one first."""
    for question in questions:
        entry = accepted.get(question.id.encode("utf-8", "surrogatepass"))
        if entry is not None:
            texts = [entry.standard, *sorted(entry.all)]
            answers = dict.fromkeys(text.decode("utf-8", "replace") for text in texts)
            question = replace(question, answers=tuple(answers))
        yield question


def counted(questions: Iterable[Question], meter: Any) -> Iterable[Question]:
    """The same questions, shown on a progress bar."""
    for question in questions:
        yield question
        meter.advance(1)
