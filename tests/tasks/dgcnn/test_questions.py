"""From the configuration to splits: who is where, with which weight, what a checkpoint keeps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.run.console import Console
from kexue_cli.tasks.dgcnn import leaks
from kexue_cli.tasks.dgcnn.config_data import DATA_SCHEMAS, Elements, QuestionData, check_data
from kexue_cli.tasks.dgcnn.encoded_set import EncodedSet
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.questions import QuestionSets, load, split_rows
from kexue_cli.tasks.dgcnn.word_vectors import Wanted

pytest.importorskip("rjieba")


def config(schema: Any = QuestionData, **changes: Any) -> Any:
    name = {} if schema is Elements else {"name": "questions"}
    return OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.create(name | changes))


def file_of(path: Path, n: int, prefix: str = "q", about: str | None = None) -> str:
    items = [
        {
            "id": f"{prefix}{i}",
            "question": f"白云山{about or prefix}{i}在哪里？",
            "passages": [{"passage": f"{prefix}{i}白白云山在州", "answer": "广州"}],
        }
        for i in range(n)
    ]
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    return str(path)


def sets(cfg: Any, tmp_path: Path, **more: Any) -> QuestionSets:
    return load(cfg, cache_dir=tmp_path / "cache", console=Console(quiet=True), **more)


def ids(part: EncodedSet | None) -> list[str]:
    assert part is not None
    return [part.record(i).id for i in range(len(part))]


def test_every_third_of_the_shuffled_questions_is_for_validation(tmp_path: Path) -> None:
    cfg = config(path=file_of(tmp_path / "a.json", 31), split_by="every_third")
    found = sets(cfg, tmp_path)
    order = np.random.default_rng(cfg.split_seed).permutation(31)
    assert sorted(ids(found.valid)) == sorted(f"q{row}" for row in order[::3])
    assert len(ids(found.train)) == 20
    assert not set(ids(found.train)) & set(ids(found.valid))


def test_folds_share_out_all_questions(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.json", 23)
    folds = [
        ids(sets(config(path=path, split_by="fold", n_folds=4, fold=k), tmp_path).valid)
        for k in range(4)
    ]
    assert sorted(id for fold in folds for id in fold) == sorted(f"q{i}" for i in range(23))


def test_held_out_questions_are_in_no_other_split(tmp_path: Path) -> None:
    cfg = config(path=file_of(tmp_path / "a.json", 40), n_held_out=10, valid_fraction=0.2)
    found = sets(cfg, tmp_path)
    parts = [ids(found.test), ids(found.valid), ids(found.train)]
    assert [len(part) for part in parts] == [10, 6, 24]
    assert len({id for part in parts for id in part}) == 40


def test_what_is_asked_in_validation_or_test_is_not_learned(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.json", 30)
    same = file_of(tmp_path / "b.json", 30, "x", about="q")
    cfg = config(path=path, n_held_out=5, valid_fraction=0.2, more=[{"path": same}])
    found = sets(cfg, tmp_path)
    numbers = [{int(id[1:]) for id in ids(part)} for part in (found.test, found.valid, found.train)]
    assert [len(part) for part in numbers] == [5, 5, 20]
    assert not numbers[2] & (numbers[0] | numbers[1])
    assert len(ids(found.train)) == 40  # 20 of each file
    assert found.problems.counts["asked_again"] == 10
    kept = sets(config(path=path, valid_path=same, repeated="keep"), tmp_path)
    assert len(ids(kept.train)) == 30


def test_questions_of_excluded_files_are_not_learned(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.json", 30)
    excluded = tmp_path / "later.json"
    item = {"question": "「白云山 Q７ 在哪里」", "passages": [{"passage": "白云山在广州"}]}
    excluded.write_text(json.dumps([item], ensure_ascii=False), encoding="utf-8")
    found = sets(config(path=path, valid_fraction=0.1, exclude=[str(excluded)]), tmp_path)
    assert "q7" not in ids(found.train)
    assert len(ids(found.train)) == (27 if "q7" in ids(found.valid) else 26)


def test_nearly_the_same_question_counts_from_an_overlap_on() -> None:
    question = "我国最早在奥运会上夺金牌的是哪位运动员"
    for asked, overlap in (("我国最早在奥运上夺金牌的是哪位？", 13 / 19), ("奥迪是谁", 0)):
        own, other = (leaks.bigrams(text.strip("？")) for text in (question, asked))
        assert len(own & other) / len(own | other) == overlap
        for limit in (0.3, 0.68, 0.69, 1.0):
            found = question in leaks.Asked([asked], Normaliser(), limit)
            assert found == (overlap >= limit)


def test_nothing_left_to_learn_from_says_why(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.json", 4)
    with pytest.raises(UserError, match=r"no questions for train.*repeated=keep"):
        sets(config(path=path, valid_path=path), tmp_path)
    evaluated = sets(config(path=path, valid_path=path), tmp_path, learns=False)
    assert len(ids(evaluated.valid)) == 4
    assert "asked_again" not in evaluated.problems.counts


def test_the_split_does_not_depend_on_what_is_learned_besides(tmp_path: Path) -> None:
    path, other = file_of(tmp_path / "a.json", 20), file_of(tmp_path / "b.json", 9, "x")
    alone = sets(config(path=path), tmp_path)
    mixed = sets(config(path=path, weight=2, more=[{"path": other, "weight": 0.5}]), tmp_path)
    assert ids(alone.valid) == ids(mixed.valid)
    assert ids(mixed.train) == ids(alone.train) + [f"x{i}" for i in range(9)]
    assert mixed.train is not None
    assert mixed.train.weights.tolist() == [2.0] * 18 + [0.5] * 9
    assert alone.checksum != mixed.checksum


def test_files_of_their_own_for_validation_and_test(tmp_path: Path) -> None:
    paths = {n: file_of(tmp_path / f"{n}.json", 5, n) for n in ("train", "valid", "test")}
    cfg = config(path=paths["train"], valid_path=paths["valid"], test_path=paths["test"])
    found = sets(cfg, tmp_path)
    for name in paths:
        assert ids(getattr(found, name)) == [f"{name}{i}" for i in range(5)]
    only = sets(cfg, tmp_path, predict_only=True, saved=found.state())
    assert only.train is None
    assert ids(only.test) == ids(found.test)


def test_questions_without_passages_are_tested_but_not_learned_from(tmp_path: Path) -> None:
    empty = [{"id": "e", "question": "", "passages": [{"passage": "甲", "answer": ""}]}]
    (tmp_path / "e.json").write_text(json.dumps(empty))
    more = [{"path": str(tmp_path / "e.json")}]
    path = file_of(tmp_path / "a.json", 10)
    found = sets(config(path=path, more=more, test_path=str(tmp_path / "e.json")), tmp_path)
    assert "e" not in ids(found.train)
    assert ids(found.test) == ["e"]
    assert found.problems.counts["empty_question"] == 2


def test_a_checkpoint_reads_other_questions_with_its_own_ids(tmp_path: Path) -> None:
    cfg = config(path=file_of(tmp_path / "a.json", 20), min_count=3, min_word_count=3)
    found = sets(cfg, tmp_path)
    path = file_of(tmp_path / "b.json", 20, "新", about="q")
    other = config(path=path, min_count=1, min_word_count=1)
    again = sets(other, tmp_path, saved=found.state())
    assert again.vocabulary.characters == found.vocabulary.characters
    assert again.words == found.words
    assert found.train is not None
    assert again.train is not None
    first, second = found.train.question(0), again.train.question(0)
    np.testing.assert_array_equal(first.chars, second.chars)
    np.testing.assert_array_equal(first.words, second.words)
    assert second.passages[0].chars[0] == 1  # 新 is unknown to it


def test_words_of_vectors_are_words_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("白云山在 1 2\n白 3 4\n", encoding="utf-8")
    cfg = config(path=file_of(tmp_path / "a.json", 10))
    found = sets(cfg, tmp_path, vectors=Wanted(str(tmp_path / "v.txt")))
    assert found.words == ["白云山在", "白"]
    assert found.vectors is not None
    assert found.vectors.shape == (2, 2)
    assert found.state()["added"] == ["白云山在"]
    assert "白云山在" in found.text.cutter.cut("白白云山在州")


def test_accepted_answers_come_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "accepted").write_text("q0\t广州\t广州|穗\n", encoding="utf-8")
    path = file_of(tmp_path / "a.json", 10)
    cfg = config(path=path, accepted=str(tmp_path / "accepted"), test_path=path)
    part = sets(cfg, tmp_path, predict_only=True).test
    assert part is not None
    assert part.record(0).answers == ("广州", "穗")
    assert part.record(1).answers == ("广州",)


def test_missing_passages_are_retrieved_also_from_a_pool(tmp_path: Path) -> None:
    path, pool = file_of(tmp_path / "a.json", 6), file_of(tmp_path / "p.json", 3, "池")
    found = sets(config(path=path, fill_to=8, pool=[pool], pool_length=6), tmp_path)
    assert found.train is not None
    record = found.train.record(0)
    assert len(record.passages) == 8
    assert record.passages[0].text.startswith(record.id)
    assert any(len(passage.text) <= 6 for passage in record.passages)


def test_files_to_test_on_keep_their_own_passages(tmp_path: Path) -> None:
    path, new = file_of(tmp_path / "a.json", 6), file_of(tmp_path / "b.json", 3, "new")
    cfg = config(path=path, valid_path=new, test_path=new, fill_to=4, pool=[path])
    found = sets(cfg, tmp_path)
    assert found.train is not None
    assert len(found.train.record(0).passages) == 4
    for part in (found.valid, found.test):
        assert part is not None
        assert [len(part.record(i).passages) for i in range(3)] == [1, 1, 1]
    cfg = config(path=path, test_path=new, fill_to=4, pool=["none.json"])
    assert ids(sets(cfg, tmp_path, predict_only=True).test) == ["new0", "new1", "new2"]


def test_a_limit_holds_for_every_split(tmp_path: Path) -> None:
    found = sets(config(path=file_of(tmp_path / "a.json", 90)), tmp_path, limit_rows=4)
    assert found.train is not None
    assert found.valid is not None
    assert len(found.train) == 4
    assert len(found.valid) <= 4


def test_the_built_in_questions_need_no_file(tmp_path: Path) -> None:
    found = sets(config(Elements, n_questions=30, n_valid=10), tmp_path)
    assert found.train is not None
    assert found.valid is not None
    assert (len(found.train), len(found.valid), found.test) == (30, 10, None)
    test_path = file_of(tmp_path / "a.json", 3)
    found = sets(config(Elements, n_questions=30, n_valid=10, test_path=test_path), tmp_path)
    assert ids(found.test) == ["q0", "q1", "q2"]


def test_another_normalisation_is_another_cache(tmp_path: Path) -> None:
    path = file_of(tmp_path / "a.json", 10)
    for changes in ({}, {"lower": False}, {"split_latin": False}, {}):
        sets(config(path=path, **changes), tmp_path)
    stores = [p for p in (tmp_path / "cache" / "dgcnn").iterdir() if p.is_dir()]
    assert len(stores) == 3


def test_nothing_to_learn_from_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: name a file"):
        sets(config(), tmp_path)
    with pytest.raises(UserError, match=r"none\.json: cannot be read"):
        sets(config(path=str(tmp_path / "none.json")), tmp_path)
    with pytest.raises(UserError, match=r"no questions for valid among 2"):
        sets(config(path=file_of(tmp_path / "a.json", 2), valid_fraction=0.1), tmp_path)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"valid_fraction": 1.0}, "valid_fraction"),
        ({"n_folds": 1}, "n_folds"),
        ({"fold": 5}, "fold"),
        ({"n_held_out": -1}, "n_held_out"),
        ({"weight": 0.0}, "weight"),
        ({"more": [{"path": "a", "weight": -1.0}]}, r"more\[0\]\.weight"),
        ({"n_held_out": 3, "test_path": "t"}, "n_held_out"),
        ({"pool": ["a"]}, "pool"),
        ({"min_count": 0}, "min_count"),
        ({"more": [{"path": "a", "fill_to": -3}]}, r"more\[0\]\.fill_to"),
    ],
)
def test_values_that_cannot_be_are_named(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^data\.{key}: "):
        check_data(config(path="a.json", **changes))


def test_a_trained_reader_tests_other_questions_than_those_held_out(tmp_path: Path) -> None:
    path, new = file_of(tmp_path / "a.json", 20), file_of(tmp_path / "b.json", 3, "new")
    cfg = config(path=path, n_held_out=5, test_path=new, valid_fraction=0.2)
    check_data(cfg, trains=False)
    found = sets(cfg, tmp_path)
    assert ids(found.test) == ["new0", "new1", "new2"]
    assert found.train is not None
    assert len(found.train) == 12


def test_a_trained_reader_is_tested_without_questions_to_learn_from(tmp_path: Path) -> None:
    cfg = config(test_path=file_of(tmp_path / "b.json", 3, "new"))
    check_data(cfg, trains=False)
    found = sets(cfg, tmp_path, learns=False)
    assert ids(found.test) == ["new0", "new1", "new2"]
    assert found.train is None
    assert found.valid is None
    with pytest.raises(ConfigError, match=r"data\.path: name a file"):
        check_data(cfg)


def test_defaults_are_accepted() -> None:
    for schema in DATA_SCHEMAS.values():
        check_data(OmegaConf.structured(schema(name="x", path="a.json")))
    with pytest.raises(ConfigError, match=r"data\.path: name a file"):
        check_data(config())
    with pytest.raises(ConfigError, match="answered"):
        check_data(config(Elements, answered=1.5))


def test_rows_are_split_for_good() -> None:
    cfg = config(n_held_out=2, valid_fraction=0.25)
    held_out, valid, train = split_rows(10, cfg, split_off=True)
    assert (len(held_out), len(valid), len(train)) == (2, 2, 6)
    held_out_again, none, rest = split_rows(10, cfg, split_off=False)
    assert held_out_again.tolist() == held_out.tolist()
    assert not len(none)
    assert sorted([*held_out, *rest]) == list(range(10))
