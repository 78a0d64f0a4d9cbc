"""WebQA's score: precision, recall and F1 of answers, for each evidence or by majority vote.

An answer is right if it equals one of the references, case and white space apart (strict), or means
the same (fuzzy, see `webqa_synonyms`). After the tool that comes with WebQA 1.0 (Li et al. 2016).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn import question_files as forms
from kexue_cli.tasks.dgcnn.json_stream import Item, items, opened
from kexue_cli.tasks.dgcnn.question_files import NO_ANSWER
from kexue_cli.tasks.dgcnn.records import Question
from kexue_cli.tasks.dgcnn.text_files import as_json
from kexue_cli.tasks.dgcnn.webqa_synonyms import WHITE_SPACE, Lists, SynonymMatcher, plain

Match = Callable[[str, str], bool]  # reference, answer
NO_RESULT = "no_result"  # what a system may say instead of nothing
SCHEMAS = {"BO": "BO", "BO2": "BOO", "BIO": "BIO", "BIO2": "BIOO", "BIO3": "BIOOO"}
LABEL = re.compile(r"\s*(\d+)\s*(;|$)")


@dataclass(frozen=True)
class Evidence:
    """An evidence's key, its references, and its tokens where the file has them."""

    key: str
    references: tuple[str, ...]
    tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A question with its references and its evidences."""

    id: str
    references: tuple[str, ...]
    evidences: tuple[Evidence, ...]


@dataclass
class Tally:
    """Counts of things to be answered, of answers given, of those answered right."""

    match: Match
    wanted: int = 0
    given: int = 0
    right: int = 0

    def add(self, references: Iterable[str], answers: Sequence[str]) -> None:
        """One evidence or question."""
        known = [text for text in map(plain, references) if text]
        self.wanted += 1
        self.given += len(answers)
        self.right += any(self._is_right(plain(answer), known) for answer in answers)

    def _is_right(self, answer: str, references: Sequence[str]) -> bool:
        if answer == NO_RESULT and NO_ANSWER in references:
            return True
        return any(self.match(reference, answer) for reference in references)

    def scores(self) -> dict[str, float]:
        """Precision, recall, F1."""
        precision = self.right / self.given if self.given else 0.0
        recall = self.right / self.wanted if self.wanted else 0.0
        total = precision + recall
        f1 = 2 * recall * precision / total if total else 0.0
        return {"precision": precision, "recall": recall, "f1": f1}


def score(
    predictions: Path, answers: Path, lists: Path | None = None, schema: str = "BIO2"
) -> dict[str, float | int]:
    """Score answers against a file of WebQA, of the blog's form, or of WebQA's own (also .gz).

    `predictions` holds one answer for each question (lines `id<TAB>answer`, or JSON {id: answer}),
    answers of each evidence (JSON {id: {evidence: answer or list of answers}}), or WebQA's labels,
    one token a line, in `schema`. With answers of evidences, all evidences are scored too, those
    without an entry as unanswered, and the most frequent answers are the question's.

    Raises:
        UserError: files of another form, unknown ids.
    """
    asked = list(read_asked(answers))
    refuse_repeated([question.id for question in asked], f"{answers}: the question")
    fuzzy = SynonymMatcher(Lists.of_tool(lists) if lists else Lists()).same
    given = read_given(predictions, asked, schema)
    per_evidence = any(isinstance(answers, dict) for answers in given.values())
    tallies: dict[str, Tally] = {}

    def count(prefix: str, references: Iterable[str], answers: Sequence[str]) -> None:
        for name, match in (("strict", str.__eq__), ("fuzzy", fuzzy)):
            tallies.setdefault(prefix + name, Tally(match)).add(references, answers)

    for question in asked:
        voted = given.get(question.id, [])
        by_key = voted if isinstance(voted, dict) else {}
        if per_evidence:
            in_order = of_evidences(question, by_key, predictions)
            for evidence, texts in zip(question.evidences, in_order, strict=True):
                count("evidence_", evidence.references, texts)
            voted = vote(in_order) if isinstance(voted, dict) else voted
        count("", question.references, list(voted))
    result: dict[str, float | int] = {
        f"{name}_{key}": value
        for name, tally in sorted(tallies.items(), key=lambda pair: pair[0].startswith("evidence"))
        for key, value in tally.scores().items()
    }
    return {**result, "questions": len(asked)}


def of_evidences(
    question: Asked, given: dict[str, list[str]], predictions: Path
) -> list[list[str]]:
    """Answers of each evidence in order; a UserError if there are some of an unknown one."""
    keys = [evidence.key for evidence in question.evidences]
    if unknown := given.keys() - keys:
        raise UserError(
            f"{predictions}, question {question.id}: the evidence {min(unknown)!r} is not "
            f"in the answers; expected one of {', '.join(keys[:3])}, …"
        )
    return [given.get(key, []) for key in keys]


def refuse_repeated(ids: Sequence[str], what: str) -> None:
    """Raise a UserError if one of the ids of `what` comes twice."""
    for id, count in Counter(ids).items():
        if count > 1:
            raise UserError(f"{what} {id!r} comes {count} times; ids must differ within a file")


def vote(answers: Sequence[Sequence[str]]) -> list[str]:
    """The most frequent answers of all evidences; if none comes twice, those of the first one.

    Several stay where they are equally frequent.
    """
    squeezed = [[WHITE_SPACE.sub("", text) for text in texts] for texts in answers]
    counts = Counter(text for texts in squeezed for text in texts)
    if not counts:
        return []
    most = max(counts.values())
    if most == 1:
        return list(dict.fromkeys(next(texts for texts in squeezed if texts)))
    return [text for text, count in counts.items() if count == most]


def read_asked(path: Path) -> Iterator[Asked]:
    """Questions with the references of each evidence, of any form that has several passages."""
    number = 0
    for item in items(path):
        if item.key is not None and not isinstance(item.value, dict):
            continue
        if isinstance(item.value, dict) and "question_tokens" in item.value:
            yield of_tokens(item, path)
            continue
        for question in forms.questions_of(item, path, number):
            number += 1
            yield Asked(question.id, question.answers or (NO_ANSWER,), evidences_of(item, question))


def evidences_of(item: Item, question: Question) -> tuple[Evidence, ...]:
    """Evidences of a question in WebQA's form with all references, in the blog's with the one."""
    if forms.form_of(item) != "webqa":
        return tuple(Evidence(p.id, (p.answer or NO_ANSWER,)) for p in question.passages)
    return tuple(
        Evidence(str(key), tuple(forms.given_answers(entry)) or (NO_ANSWER,))
        for key, entry in item.value["evidences"].items()
    )


def of_tokens(item: Item, path: Path) -> Asked:
    """A question of WebQA's own form, whose texts are lists of tokens."""
    try:
        evidences: list[Evidence] = []
        for entry in forms.list_in(item.value, "evidences"):
            tokens = tuple(
                forms.tokens_of(forms.object_of(entry, "an evidence")["evidence_tokens"])
            )
            key = forms.id_in(entry, "e_key", len(evidences))
            evidences.append(Evidence(key, tuple(forms.golden_answers(entry)), tokens))
        answered = [e for e in evidences if not says_nothing(e.references)]
        every = dict.fromkeys(text for e in answered or evidences for text in e.references)
        return Asked(str(item.value["q_key"]), tuple(every), tuple(evidences))
    except (KeyError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise UserError(
            f"{path}, line {item.line}: {what}; expected q_key and evidences with evidence_tokens "
            "and golden_answers"
        ) from error


def says_nothing(references: Sequence[str]) -> bool:
    """Whether the one reference of an evidence is that it holds no answer."""
    return [text.lower() for text in references] == [NO_ANSWER]


Given = dict[str, dict[str, list[str]] | list[str]]


def read_given(path: Path, asked: Sequence[Asked], schema: str) -> Given:
    """Answers by question, or by question and evidence."""
    text = read_text(path)
    if text.lstrip()[:1] == "{":
        given = of_json(text, path)
    elif LABEL.match(text.split("\n", 1)[0]) and "\t" not in text.split("\n", 1)[0]:
        return of_labels(text, path, asked, schema)
    else:
        given = of_lines(text, path)
    unknown = set(given) - {question.id for question in asked}
    if unknown:
        raise UserError(
            f"{path}: {len(unknown)} ids are not in the answers, {min(unknown)!r} among them; "
            "expected the ids of that file"
        )
    return given


def read_text(path: Path) -> str:
    """A text file, also gzipped."""
    with opened(path) as file:
        return file.read().replace("\r\n", "\n")


def of_json(text: str, path: Path) -> Given:
    """{id: answer}, {id: [answers]} or {id: {evidence: answer or answers}}."""
    found = as_json(text, str(path))
    given: Given = {}
    for id, value in found.items():
        if isinstance(value, dict):
            given[id] = {key: texts_of(entry, path, id) for key, entry in value.items()}
        else:
            given[id] = texts_of(value, path, id)
    return given


def texts_of(value: Any, path: Path, id: str) -> list[str]:
    """One answer or several; an empty one is none."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise UserError(
            f"{path}, id {id}: expected an answer, a list of answers, or such for each evidence, "
            f"found {json.dumps(value, ensure_ascii=False)[:60]}"
        )
    return [text for text in values if text.strip()]


def of_lines(text: str, path: Path) -> Given:
    """Lines id<TAB>answer."""
    given: Given = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        fields = line.split("\t")
        if len(fields) != 2:
            raise UserError(
                f"{path}, line {number}: expected 2 fields, id<TAB>answer, found {len(fields)}: "
                f"{line[:60]!r}; take tabs out of answers and delete empty lines"
            )
        if fields[0] in given:
            raise UserError(f"{path}, line {number}: the id {fields[0]!r} comes twice")
        given[fields[0]] = texts_of(fields[1], path, fields[0])
    return given


def of_labels(text: str, path: Path, asked: Sequence[Asked], schema: str) -> Given:
    """WebQA's form: for each token of each evidence a line that begins with its label's number."""
    kinds, labels = SCHEMAS[schema], []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        found = LABEL.match(line)
        if found is None or int(found.group(1)) >= len(kinds):
            raise UserError(
                f"{path}, line {number}: expected a label below {len(kinds)} of the schema "
                f"{schema}, found {line[:40]!r}"
            )
        labels.append(kinds[int(found.group(1))])
    n_tokens = sum(len(e.tokens) for question in asked for e in question.evidences)
    if n_tokens != len(labels):
        raise UserError(
            f"{path}: {len(labels)} labels for {n_tokens} tokens; expected one line for each token "
            "of a file of WebQA's own form"
        )
    given: Given = {}
    at = 0
    for question in asked:
        by_evidence: dict[str, list[str]] = {}
        for evidence in question.evidences:
            n = len(evidence.tokens)
            by_evidence[evidence.key] = chunks(evidence.tokens, labels[at : at + n])
            at += n
        given[question.id] = by_evidence
    return given


def chunks(tokens: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Answers that labels mark: B begins one, I goes on or, after an O, begins one, too."""
    found: list[list[str]] = []
    open_chunk = False
    for token, label in zip(tokens, labels, strict=True):
        if label == "O":
            open_chunk = False
        elif label == "B" or not open_chunk:
            found.append([token])
            open_chunk = True
        else:
            found[-1].append(token)
    return ["".join(chunk) for chunk in found]
