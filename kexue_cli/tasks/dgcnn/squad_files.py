"""Files in the form of SQuAD: questions with references, and predictions as {id: answer}."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.question_files import answers_in, paragraphs_in, qas_in, shown
from kexue_cli.tasks.dgcnn.text_files import as_json, as_text


@dataclass(frozen=True)
class Question:
    """One question; `answerable` as SQuAD 2.0 has it: whether it came with answers at all."""

    id: str
    references: tuple[str, ...]

    @property
    def answerable(self) -> bool:
        """Whether there is any reference."""
        return bool(self.references)


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    return as_json(as_text(content, str(path)), str(path))


def read_predictions(path: Path) -> dict[str, str]:
    """Answers by question id."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f'{path}: expected {{"id": "answer", …}}, found {shown(found)}')
    for key, answer in found.items():
        if not isinstance(answer, str):
            raise UserError(f"{path}, id {key}: expected a text, found {shown(answer)}")
    return found


def refuse_foreign(given: dict[str, str], known: Iterable[str], predictions: Path) -> None:
    """Raise a UserError if there are predictions, and not one of them is for a known question."""
    if given and given.keys().isdisjoint(known):
        raise UserError(
            f"{predictions}: none of its {len(given)} ids is in the answers, "
            f"{min(given)!r} among them; expected the ids of that file"
        )


def read_answer_file(path: Path) -> list[Any]:
    """The list of articles, which the file holds under `data` or is itself."""
    found = read_json(path)
    articles = found.get("data") if isinstance(found, dict) else found
    if not isinstance(articles, list):
        raise UserError(
            f"{path}: expected a list of articles, or one under the key data, found {shown(found)}"
        )
    return articles


def questions_of(articles: list[Any], path: Path) -> Iterator[Question]:
    """All questions in the file's order, of SQuAD's form or of CMRC's first one.

    The latter has no paragraphs, `query_id` for `id`, and plain texts for answers.
    """
    for number, article in enumerate(articles):
        try:
            for paragraph in paragraphs_in(article):
                for qa in qas_in(paragraph):
                    yield question_of(qa)
        except (KeyError, TypeError, ValueError) as error:
            what = f"{error} is missing" if isinstance(error, KeyError) else error
            raise UserError(
                f"{path}, article {number}: not of SQuAD's form: expected paragraphs → qas → id, "
                f"answers → text ({what})"
            ) from error


def question_of(qa: dict[str, Any]) -> Question:
    """Its id and references; these as SQuAD has them, as columns, or as plain texts."""
    id = qa["id"] if "id" in qa else qa["query_id"]
    if not isinstance(id, str):
        raise TypeError(f"an id must be a text, found {shown(id)}")
    if "answers" not in qa:
        raise KeyError("answers")
    texts = [a["text"] if isinstance(a, dict) else a for a in answers_in(qa)]
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"an answer must be a text, found {shown(text)}")
    return Question(id, tuple(texts))
