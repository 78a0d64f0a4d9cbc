"""The built-in questions: facts that are right, answers where they are said to be, no leak."""

from kexue_cli.tasks.dgcnn import elements
from kexue_cli.tasks.dgcnn.element_table import read_table

TRAIN = (False, True, True, True, True)
VALID = (True, False, False, False, False)


def test_the_table_holds_all_elements_once() -> None:
    table = read_table()
    assert [element.number for element in table] == list(range(1, 119))
    for field in ("symbol", "name", "english"):
        assert len({getattr(element, field) for element in table}) == 118
    assert all(float(element.mass) > 0 for element in table)
    assert all(bool(element.discoverer) == bool(element.year) for element in table)


def test_well_known_facts() -> None:
    by_symbol = {element.symbol: element for element in read_table()}
    assert (by_symbol["Ge"].name, by_symbol["Ge"].discoverer) == ("锗", "温克勒")
    assert (by_symbol["Ra"].year, by_symbol["Ra"].period) == ("1898", "七")
    assert [by_symbol[s].period for s in ("He", "Li", "Ar", "K", "Xe", "Og")] == list(
        "一二三四五七"
    )


def test_the_same_seed_gives_the_same_questions() -> None:
    first = list(elements.questions(30, 5, 0.4, 1, TRAIN))
    assert first == list(elements.questions(30, 5, 0.4, 1, TRAIN))
    assert first != list(elements.questions(30, 5, 0.4, 2, TRAIN))


def test_answers_are_in_the_passages_that_claim_them_and_in_no_other() -> None:
    for question in elements.questions(200, 4, 0.4, 0, TRAIN):
        assert any(passage.answer for passage in question.passages)
        for passage in question.passages:
            if passage.answer:
                assert question.answers == (passage.answer,)
                assert passage.answer in passage.text
            else:
                assert question.answers[0].lower() not in passage.text.lower()


def test_other_elements_tell_the_same_kind_of_fact() -> None:
    years = [
        question
        for question in elements.questions(400, 2, 1.0, 0, TRAIN)
        if question.answers[0].endswith("年")
    ]
    assert years
    for question in years:
        assert all(passage.text.count("年") >= 2 for passage in question.passages)


def test_validation_asks_about_other_elements() -> None:
    names = [element.name for element in read_table()]
    numbers = {"train": TRAIN, "valid": VALID}
    asked: dict[str, set[str]] = {}
    for name, chosen in numbers.items():
        texts = [
            question.text + question.answers[0]
            for question in elements.questions(400, 1, 1.0, 0, chosen)
        ]
        asked[name] = {e for e in names if any(e in text for text in texts)}
    # 金 is also in no other name; the clue may be a symbol, then the name is the answer.
    assert not asked["train"] & asked["valid"]
    assert asked["valid"] <= {name for i, name in enumerate(names) if i % 5 == 0}
