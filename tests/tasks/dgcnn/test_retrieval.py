"""BM25 is what its formula says; filled questions keep their own passages and know the answer."""

import math

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.records import Passage, Question
from kexue_cli.tasks.dgcnn.retrieval import K1, B, Retriever, pieces_of

TEXTS = ["白云山在广州，白云山", "广州是城市", "黄山在安徽", "完全无关的话", "ＡＢ白云"]


def plain_bm25(query: str, texts: list[str]) -> list[float]:
    grams = [[text[i : i + 2] for i in range(len(text) - 1)] for text in texts]
    mean = sum(map(len, grams)) / len(grams)
    scores = []
    for document in grams:
        score = 0.0
        for term in {query[i : i + 2] for i in range(len(query) - 1)}:
            with_term = sum(term in other for other in grams)
            idf = math.log(1 + (len(texts) - with_term + 0.5) / (with_term + 0.5))
            times = document.count(term)
            length = K1 * (1 - B + B * len(document) / mean)
            score += idf * times * (K1 + 1) / (times + length) if times else 0.0
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["白云山在哪里", "广州的城市", "ab白云", "没有", "白"])
def test_scores_are_those_of_the_formula(query: str) -> None:
    normalise = Normaliser()
    found = Retriever(TEXTS, normalise).scores(query)
    np.testing.assert_allclose(found, plain_bm25(query, [normalise(text) for text in TEXTS]))


def test_a_question_is_filled_with_the_best_other_texts() -> None:
    question = Question("q", "白云山在哪里", (Passage("0", TEXTS[0], "广州"),), ("广州",))
    filled = Retriever(TEXTS, Normaliser()).fill(question, 3)
    assert filled.passages[0] is question.passages[0]
    assert [passage.text for passage in filled.passages[1:]] == [TEXTS[4], TEXTS[2]]
    assert [passage.answer for passage in filled.passages] == ["广州", "", ""]


def test_a_retrieved_text_with_the_answer_is_marked_as_it_is_written() -> None:
    question = Question("q", "白云在哪里", (Passage("0", "别的"),), ("ab",))
    filled = Retriever(TEXTS, Normaliser()).fill(question, 9)
    assert [p.answer for p in filled.passages if p.text == "ＡＢ白云"] == ["ＡＢ"]
    assert len({passage.id for passage in filled.passages}) == len(filled.passages)


def test_a_question_that_has_enough_stays() -> None:
    question = Question("q", "白云山", (Passage("0", "甲"), Passage("1", "乙")), ())
    assert Retriever(TEXTS, Normaliser()).fill(question, 2) == question


def test_no_texts_give_no_passages() -> None:
    question = Question("q", "白云山", (Passage("0", "甲"),), ())
    assert Retriever([], Normaliser()).fill(question, 5) == question


def test_pieces_end_with_sentences_and_lose_nothing() -> None:
    text = "第一句。第二句！第三句很长很长很长很长？尾"
    pieces = list(pieces_of(text, 9))
    assert "".join(pieces) == text
    assert pieces[0] == "第一句。第二句！"
    assert max(map(len, pieces)) <= 9
    assert list(pieces_of("", 9)) == []


def test_retrieved_passages_have_ids_of_their_own() -> None:
    own = (Passage("retrieved-2", "甲"), Passage("1", "乙"))
    filled = Retriever(TEXTS, Normaliser()).fill(Question("q", "白云在哪里", own, ()), 4)
    assert [passage.id for passage in filled.passages] == [
        "retrieved-2", "1", "retrieved-3", "retrieved-4"
    ]  # fmt: skip
