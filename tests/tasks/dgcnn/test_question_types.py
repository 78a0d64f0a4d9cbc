"""What questions ask for."""

import pytest

from kexue_cli.tasks.dgcnn.question_types import question_type


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("谁发现了锗？", "who"),
        ("郑州在哪里", "where"),
        ("第一次世界杯在哪一年举行？", "when"),
        ("有谁知道光棍节是哪天？", "when"),
        ("白云山的海拔是多少？", "how many"),
        ("元素周期表中第几号？", "how many"),
        ("哪种元素的符号是O？", "which"),
        ("锗的符号是什么？", "what"),
        ("為什麼天空是藍的？", "why, how"),
        ("How many people live there?", "how many"),
        ("How does it work?", "why, how"),
        ("Whatever showed", "other"),
        ("《匆匆》的作者", "other"),
    ],
)
def test_question_words(text: str, wanted: str) -> None:
    assert question_type(text) == wanted
