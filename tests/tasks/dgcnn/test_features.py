"""The hand features: the post's worked example, and a plain computation of each definition."""

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.features import mean_over_words, token_features

QUESTION = ["白云山", "的", "海拔", "是", "多少", "？"]
PASSAGE = ["白云山", "坐落", "在", "广州", "，", "主峰", "海拔", "3", "8", "2", "米"]


def numbered(*texts: list[str]) -> list[np.ndarray]:
    kinds: dict[str, int] = {}
    return [np.array([kinds.setdefault(token, len(kinds)) for token in t]) for t in texts]


def test_the_posts_worked_example() -> None:
    question, passage = numbered(QUESTION, PASSAGE)
    (features,) = token_features(question, [passage])
    jaccard = [0.13, 0.11, 0.1, 0.09, 0.09, 0.09, 0.09, 0.09, 0.09, 0.1, 0]
    edit = [0.83, 0.83, 0.83, 0.83, 1, 1, 1, 0.83, 1, 1, 1]
    np.testing.assert_allclose(features[:, 2], jaccard, atol=0.00501)
    np.testing.assert_allclose(features[:, 3], edit, atol=0.00501)
    assert features[0, 2] == np.float32(1 / 8)
    assert features[:, 0].tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]


def test_cooccurrence_divides_the_other_passages_by_all() -> None:
    question, *passages = numbered(["谁"], *([["合演", "者"]] * 5), *([["其他"]] * 5))
    features = token_features(question, passages)
    np.testing.assert_allclose(features[0][:, 1], 0.4)


def test_characters_are_averaged_over_their_word() -> None:
    question, passage = numbered(["演"], ["合", "演", "了"])
    (features,) = token_features(question, [passage])
    assert mean_over_words(features, np.array([1, 0, 1]))[:, 0].tolist() == [0.5, 0]


def plain_edit_distance(a: list[int], b: list[int]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain_edit_distance(a[1:], b) + 1,
        plain_edit_distance(a, b[1:]) + 1,
        plain_edit_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


@pytest.mark.parametrize("seed", range(6))
def test_every_feature_is_what_its_definition_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    question = rng.integers(0, 5, n)
    passages = [rng.integers(0, 7, int(length)) for length in rng.integers(0, 9, 4)]
    for passage, found in zip(passages, token_features(question, passages), strict=True):
        for i, token in enumerate(passage):
            window = [
                int(passage[j]) for j in range(i - n // 2, i - n // 2 + n) if 0 <= j < len(passage)
            ]
            wanted = [
                token in question,
                (sum(token in other for other in passages) - 1) / len(passages),
                len(set(window) & set(question)) / len(set(window) | set(question)),
                plain_edit_distance(window, question.tolist()) / n,
            ]
            np.testing.assert_allclose(found[i], wanted, rtol=1e-6)


def test_an_empty_question_has_no_features() -> None:
    (features,) = token_features(np.array([], int), [np.array([1, 2])])
    assert not features.any()
