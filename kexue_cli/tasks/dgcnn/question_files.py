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

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.json_stream import Item, items
from kexue_cli.tasks.dgcnn.normalise import LEVELLED
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
            refuse_repeated_passages(question, path, item.line)
            ids[question.id] = item.line
            yield rules.check(question, path, problems)
    if not ids:
        raise UserError(f"{path}: holds no questions; expected one of {', '.join(FORMS.values())}")


def refuse_repeated_passages(question: Question, path: Path, line: int) -> None:
    """Raise a UserError if two passages of a question have the same id."""
    seen: set[str] = set()
    for passage in question.passages:
        if passage.id in seen:
            raise UserError(
                f"{path}, line {line}, question {question.id}: two passages have the id "
                f"{passage.id!r}; ids must differ within a question, or be left out"
            )
        seen.add(passage.id)


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
    for i, entry in enumerate(list_in(value, "passages")):
        entry = {"passage": entry} if isinstance(entry, str) else object_of(entry, "a passage")
        answer = text_in(entry, "answer", default="")
        passages.append(Passage(id_in(entry, "id", i), text_in(entry, "passage"), answer))
    answers = value.get("answers", [passage.answer for passage in passages])
    id = id_in(value, "id", item.key if item.key is not None else number)
    return [
        Question(id, text_in(value, "question"), tuple(passages), distinct(answers), source=source)
    ]


def of_contest(item: Item, source: str, number: int) -> list[Question]:
    """One question of the contest's own files: the answer counts wherever it occurs."""
    value = item.value
    answer = text_in(value, "answer", default="")
    passages = []
    for i, entry in enumerate(list_in(value, "passages")):
        text = text_in(object_of(entry, "a passage"), "passage_text")
        passages.append(Passage(id_in(entry, "passage_id", i), text, held([answer], text)))
    id = id_in(value, "query_id", number)
    return [
        Question(id, text_in(value, "query"), tuple(passages), distinct([answer]), source=source)
    ]


def of_webqa(item: Item, source: str, number: int) -> list[Question]:
    """One question of WebQA 1.0: of an evidence's answers the first that it contains."""
    value = item.value
    passages, accepted = [], []
    for key, entry in object_of(value["evidences"], '"evidences"').items():
        text = text_in(object_of(entry, "an evidence"), "evidence")
        real = [answer for answer in given_answers(entry) if answer != NO_ANSWER]
        accepted += real
        answer = held(real, text) or (*real, "")[0]
        passages.append(Passage(str(key), text, answer))
    id = item.key if item.key is not None else id_in(value, "id", number)
    return [
        Question(id, text_in(value, "question"), tuple(passages), distinct(accepted), source=source)
    ]


def of_tokens(item: Item, source: str, number: int) -> list[Question]:
    """One question of WebQA's own form: tokens are put together without blanks."""
    value = item.value
    passages, accepted = [], []
    for i, entry in enumerate(list_in(value, "evidences")):
        text = "".join(tokens_of(object_of(entry, "an evidence")["evidence_tokens"]))
        real = [answer for answer in golden_answers(entry) if answer != NO_ANSWER]
        accepted += real
        passages.append(Passage(id_in(entry, "e_key", i), text, held(real, text)))
    text = "".join(tokens_of(value["question_tokens"]))
    return [Question(str(value["q_key"]), text, tuple(passages), distinct(accepted), source=source)]


def of_squad(item: Item, source: str, number: int) -> list[Question]:
    """All questions of an article: one passage each, the first reference marked in it."""
    found = []
    for i, paragraph in enumerate(paragraphs_in(item.value)):
        text = text_in(paragraph, "context" if "context" in paragraph else "context_text")
        passage_id = id_in(paragraph, "id" if "id" in paragraph else "context_id", i)
        for qa in qas_in(paragraph):
            id = str(qa["id"] if "id" in qa else qa["query_id"])
            query = text_in(qa, "question" if "question" in qa else "query_text")
            given = [a if isinstance(a, dict) else {"text": a} for a in answers_in(qa)]
            given = [answer for answer in given if text_in(answer, "text").strip()]
            answer, start = (given[0]["text"], offset_in(given[0])) if given else ("", None)
            passage = Passage(passage_id, text, answer, start)
            answers = tuple(answer["text"] for answer in given)
            found.append(Question(id, query, (passage,), answers, source=source))
    return found


READERS: dict[str, Callable[[Item, str, int], list[Question]]] = {
    "blog": of_blog,
    "contest": of_contest,
    "webqa": of_webqa,
    "tokens": of_tokens,
    "squad": of_squad,
}


def paragraphs_in(article: Any) -> list[dict[str, Any]]:
    """The paragraphs of SQuAD's form; an article without is one itself, as in CMRC's first form."""
    whole = object_of(article, "an article")
    found = list_in(whole, "paragraphs") if "paragraphs" in whole else [whole]
    return [object_of(paragraph, "a paragraph") for paragraph in found]


def qas_in(paragraph: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions of a paragraph of SQuAD's form."""
    return [object_of(qa, "a question") for qa in list_in(paragraph, "qas")]


def answers_in(qa: dict[str, Any]) -> list[Any]:
    """The references of SQuAD's form; as columns, {"text": […], "answer_start": […]}, too."""
    given = qa.get("answers", [])
    if not isinstance(given, dict):
        return list_in({"answers": given}, "answers")
    columns = [list_in(given, key) for key in ("text", "answer_start")]
    if len(columns[0]) != len(columns[1]):
        raise ValueError(
            f'"text" and "answer_start" must be equally long, found {shown(columns[0])} and '
            f"{shown(columns[1])}"
        )
    return [{"text": text, "answer_start": start} for text, start in zip(*columns, strict=True)]


def offset_in(answer: dict[str, Any]) -> int | None:
    """Where an answer of SQuAD's form begins; None where it is not said."""
    start = answer.get("answer_start")
    try:
        return None if start is None else int(start)
    except (TypeError, ValueError, OverflowError) as error:  # the last one for Infinity
        raise ValueError(f'"answer_start" must be a whole number, found {shown(start)}') from error


def golden_answers(entry: dict[str, Any]) -> list[str]:
    """The references of an evidence in WebQA's own form, put together."""
    return ["".join(tokens_of(tokens)) for tokens in list_in(entry, "golden_answers")]


def tokens_of(value: Any) -> list[str]:
    """A list of tokens; those of a text are its characters."""
    if not isinstance(value, list | str) or not all(isinstance(token, str) for token in value):
        raise ValueError(f"tokens must be a list of texts, found {shown(value)}")
    return list(value)


def object_of(value: Any, what: str) -> dict[str, Any]:
    """The value, which must be an object."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be an object, found {shown(value)}")
    return value


def given_answers(entry: dict[str, Any]) -> list[str]:
    """What WebQA's form has under "answer", one text or a list of them."""
    given = entry.get("answer", [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list) or not all(isinstance(answer, str) for answer in given):
        raise ValueError(f'"answer" must be a list of texts, found {shown(given)}')
    return given


def held(answers: list[str], text: str) -> str:
    """The first of the answers that occurs in the text, width and case apart; "" if none does."""
    levelled = LEVELLED(text)
    return next((a for a in answers if a.strip() and LEVELLED(a.strip()) in levelled), "")


def id_in(entry: dict[str, Any], key: str, otherwise: Any) -> str:
    """The id under a key, else another; a null counts as none."""
    found = entry.get(key)
    return str(otherwise if found is None else found)


def list_in(entry: dict[str, Any], key: str) -> list[Any]:
    """The list under a key."""
    if not isinstance(entry[key], list):
        raise ValueError(f'"{key}" must be a list, found {shown(entry[key])}')
    return list(entry[key])


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
    """A value for a message as JSON has it, cut at 60 characters."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
