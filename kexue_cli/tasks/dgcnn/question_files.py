"""Files of questions with passages, of any of the forms in use, recognised by their content.

- blog: [{"id", "question", "passages": [{"passage", "answer"}]}], as kexue.fm 6906 publishes
  SogouQA and WebQA; "answers" (all accepted ones) may stand beside, "answer" be missing.
- contest: lines {"query_id", "query", "answer", "passages": [{"passage_id", "passage_text"}]}.
- webqa: WebQA 1.0 as kexue.fm 4338 publishes it, {key: {"question", "evidences": {key:
  {"evidence", "answer": ["…"] or ["no_answer"]}}}}.
- tokens: WebQA 1.0 as its authors publish it, lines {"q_key", "question_tokens", "evidences"}, also
  gzipped.
- squad: SQuAD 1.1 and 2.0, CMRC 2018 (both forms), DRCD, DuReader-robust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.json_stream import Item, items
from kexue_cli.tasks.dgcnn.problems import Problems, Rules
from kexue_cli.tasks.dgcnn.records import Passage, Question

FORMS = {
    "blog": '{"id", "question", "passages": [{"passage", "answer"}]}',
    "contest": '{"query_id", "query", "answer", "passages": [{"passage_id", "passage_text"}]}',
    "webqa": '{key: {"question", "evidences": {key: {"evidence", "answer": […]}}}}',
    "tokens": '{"q_key", "question_tokens", "evidences": [{"evidence_tokens", "golden_answers"}]}',
    "squad": '{"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}',
}
NO_ANSWER = "no_answer"


def read_questions(
    path: Path, rules: Rules, problems: Problems, limit: int | None = None
) -> Iterator[Question]:
    """Questions of a file, at most `limit`, checked by `rules`; `problems` fills on the way.

    Raises:
        UserError: the file is not there, not JSON, of no known form, has an id twice, or something
            that `rules` stop at; file and line are named.
    """
    ids: dict[str, int] = {}
    for item in items(path):
        if item.key is not None and not isinstance(item.value, dict):
            continue  # "version" and the like beside the data
        for question in questions_of(item, path, len(ids)):
            if question.id in ids:
                raise UserError(
                    f"{path}, line {item.line}: the id {question.id!r} is already used on line "
                    f"{ids[question.id]}; ids must differ within a file"
                )
            if limit is not None and len(ids) >= limit:
                return
            ids[question.id] = item.line
            yield rules.check(question, path, problems)
    if not ids:
        raise UserError(f"{path}: holds no questions; expected one of {', '.join(FORMS.values())}")


def questions_of(item: Item, path: Path, number: int) -> list[Question]:
    """The questions of one item, all of one article in SQuAD's form; `number` were before it."""
    form = form_of(item)
    if form is None:
        raise UserError(
            f"{path}, line {item.line}: not a question of a known form; found "
            f"{shown(item.value)}; expected one of {', '.join(FORMS.values())}"
        )
    try:
        return READERS[form](item, path.name, number)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}, line {item.line}: {what}; expected {FORMS[form]}") from error


def form_of(item: Item) -> str | None:
    """Name of the form, None if it is none of them."""
    value = item.value
    if not isinstance(value, dict):
        return None
    if "question_tokens" in value:
        return "tokens"
    if "evidences" in value:
        return "webqa"
    if "paragraphs" in value or "qas" in value:
        return "squad"
    if "query" in value:
        return "contest"
    return "blog" if "question" in value or "passages" in value else None


def of_blog(item: Item, source: str, number: int) -> list[Question]:
    """One question of the blog's form; a passage may be a plain text."""
    value = item.value
    passages = []
    for i, entry in enumerate(value["passages"]):
        entry = {"passage": entry} if isinstance(entry, str) else entry
        answer = text_in(entry, "answer", default="")
        passages.append(Passage(str(entry.get("id", i)), text_in(entry, "passage"), answer))
    answers = value.get("answers", [passage.answer for passage in passages])
    id = str(value.get("id", item.key if item.key is not None else number))
    return [
        Question(id, text_in(value, "question"), tuple(passages), distinct(answers), source=source)
    ]


def of_contest(item: Item, source: str, number: int) -> list[Question]:
    """One question of the contest's own files: the answer counts wherever it occurs."""
    value = item.value
    answer = text_in(value, "answer", default="")
    passages = []
    for i, entry in enumerate(value["passages"]):
        text = text_in(entry, "passage_text")
        found = answer if answer and answer in text else ""
        passages.append(Passage(str(entry.get("passage_id", i)), text, found))
    id = str(value.get("query_id", number))
    return [
        Question(id, text_in(value, "query"), tuple(passages), distinct([answer]), source=source)
    ]


def of_webqa(item: Item, source: str, number: int) -> list[Question]:
    """One question of WebQA 1.0: of an evidence's answers the first that it contains."""
    value = item.value
    passages, accepted = [], []
    for key, entry in value["evidences"].items():
        text, given = text_in(entry, "evidence"), entry.get("answer", [])
        given = [given] if isinstance(given, str) else given
        real = [answer for answer in given if answer != NO_ANSWER]
        accepted += real
        answer = next((answer for answer in real if answer in text), (*real, "")[0])
        passages.append(Passage(str(key), text, answer))
    id = item.key if item.key is not None else str(value.get("id", number))
    return [
        Question(id, text_in(value, "question"), tuple(passages), distinct(accepted), source=source)
    ]


def of_tokens(item: Item, source: str, number: int) -> list[Question]:
    """One question of WebQA's own form: tokens are put together without blanks."""
    value = item.value
    passages, accepted = [], []
    for i, entry in enumerate(value["evidences"]):
        text = "".join(entry["evidence_tokens"])
        real = ["".join(tokens) for tokens in entry["golden_answers"]]
        real = [answer for answer in real if answer != NO_ANSWER]
        accepted += real
        answer = next((answer for answer in real if answer in text), "")
        passages.append(Passage(str(entry.get("e_key", i)), text, answer))
    text = "".join(value["question_tokens"])
    return [Question(str(value["q_key"]), text, tuple(passages), distinct(accepted), source=source)]


def of_squad(item: Item, source: str, number: int) -> list[Question]:
    """All questions of an article: one passage each, the first reference marked in it."""
    found = []
    for i, paragraph in enumerate(item.value.get("paragraphs", [item.value])):
        text = text_in(paragraph, "context" if "context" in paragraph else "context_text")
        passage_id = str(paragraph.get("id", paragraph.get("context_id", i)))
        for qa in paragraph["qas"]:
            id = str(qa["id"] if "id" in qa else qa["query_id"])
            query = text_in(qa, "question" if "question" in qa else "query_text")
            given = [a if isinstance(a, dict) else {"text": a} for a in qa.get("answers", [])]
            texts = [text_in(answer, "text") for answer in given]
            start = given[0].get("answer_start") if given else None
            answer = texts[0] if texts else ""
            passage = Passage(passage_id, text, answer, None if start is None else int(start))
            found.append(Question(id, query, (passage,), tuple(texts), source=source))
    return found


READERS: dict[str, Callable[[Item, str, int], list[Question]]] = {
    "blog": of_blog,
    "contest": of_contest,
    "webqa": of_webqa,
    "tokens": of_tokens,
    "squad": of_squad,
}


def text_in(entry: dict[str, Any], key: str, default: str | None = None) -> str:
    """The text under a key; a null counts as the default."""
    value = entry.get(key, default) if default is not None else entry[key]
    value = default if value is None and default is not None else value
    if not isinstance(value, str):
        raise ValueError(f'"{key}" must be a text, found {shown(value)}')
    return value


def distinct(answers: Any) -> tuple[str, ...]:
    """Answers that are not empty, each once, in their order."""
    if not isinstance(answers, list) or not all(isinstance(a, str) for a in answers):
        raise ValueError(f'"answers" must be a list of texts, found {shown(answers)}')
    return tuple(dict.fromkeys(answer for answer in answers if answer.strip()))


def shown(value: Any) -> str:
    """A value for a message, cut at 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
