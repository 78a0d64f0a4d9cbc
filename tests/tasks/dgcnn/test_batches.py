"""Batches hold what they promise: which passages of a question, under which number."""

import json
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from kexue_cli.run.console import Console
from kexue_cli.run.ranks import Ranks
from kexue_cli.tasks.dgcnn.batches import LENGTH_STEP, Batch, Batches
from kexue_cli.tasks.dgcnn.config_data import QuestionData
from kexue_cli.tasks.dgcnn.crops import Crop
from kexue_cli.tasks.dgcnn.examples import Level
from kexue_cli.tasks.dgcnn.questions import QuestionSets, load

pytest.importorskip("rjieba")
N_PASSAGES = 4


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> QuestionSets:
    """Questions of their own length; passage k has k + 1 characters more, the last the answer."""
    folder = tmp_path_factory.mktemp("batches")
    items = [
        {
            "id": f"q{i}",
            "question": "山" * (i + 1),
            "passages": [
                {"passage": "水" * (k + 1) + "州" * (k == 3), "answer": "州" * (k == 3)}
                for k in range(N_PASSAGES)
            ],
        }
        for i in range(30)
    ]
    path = folder / "a.json"
    path.write_text(json.dumps(items, ensure_ascii=False), encoding="utf-8")
    form = {"name": "questions", "path": str(path), "valid_fraction": 0.2}
    cfg: Any = OmegaConf.merge(OmegaConf.structured(QuestionData), OmegaConf.create(form))
    return load(cfg, cache_dir=folder / "cache", console=Console(quiet=True))


def first_batch(sets: QuestionSets, together: int, positive: float = 0.0) -> Batch:
    assert sets.train is not None
    rest = (0.0, positive, 0, Ranks(), torch.device("cpu"), 0.0, together)
    return next(Batches(sets.train, 6, 100, Crop.answer, Level.characters, *rest)(0))


def lengths(texts: torch.Tensor) -> list[int]:
    return (texts > 0).sum(dim=1).tolist()


@pytest.mark.parametrize("together", [1, 3, 9])
def test_a_question_comes_with_so_many_different_passages(
    sets: QuestionSets, together: int
) -> None:
    batch = first_batch(sets, together)
    n = min(together, N_PASSAGES)
    assert batch.group.tolist() == [i for i in range(6) for _ in range(n)]
    asked, read = lengths(batch.question), lengths(batch.passage)
    for i in range(6):
        rows = [k for k, group in enumerate(batch.group.tolist()) if group == i]
        assert len({asked[k] for k in rows}) == 1
        assert len({read[k] for k in rows}) == n


def test_a_passage_with_the_answer_is_among_them_as_often_as_asked_for(sets: QuestionSets) -> None:
    for together in (1, 2):
        batch = first_batch(sets, together, positive=1.0)
        answered = {int(batch.group[int(row)]) for row in batch.spans[:, 0]}
        assert answered == set(range(6))


def test_batches_have_few_different_lengths(sets: QuestionSets) -> None:
    """The questions have 1 to 30 characters, those of a batch any six of these lengths."""
    for together in (1, 3):
        batch = first_batch(sets, together)
        for text in (batch.question, batch.passage):
            spare = text.shape[1] - max(lengths(text))
            assert text.shape[1] % LENGTH_STEP == 0
            assert 0 <= spare < LENGTH_STEP
        assert batch.features.shape[:2] == batch.passage.shape
