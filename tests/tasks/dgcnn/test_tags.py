"""Every character knows its word's part of speech, whatever text is given."""

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.tags import FLAGS, N_TAGS, Tagger, number_of

pytest.importorskip("rjieba")


def tag(flag: str) -> int:
    return 2 * (1 + FLAGS.index(flag))


def test_tags_tell_words_and_where_they_begin() -> None:
    tags = Tagger("rjieba").tags("林海音在北京")
    person, place, p = tag("nr"), tag("ns"), tag("p")
    assert tags.tolist() == [person + 1, person, person, p + 1, place + 1, place]


def test_flags_finer_than_those_known_count_as_their_beginning() -> None:
    assert number_of("nrfg") == number_of("nr") != number_of("n")
    assert number_of("nz") != number_of("ng") == number_of("n")
    assert number_of("zg") == 0
    assert 2 * max(map(number_of, FLAGS)) + 1 < N_TAGS


@pytest.mark.parametrize("text", ["", " a\n\u3000", "\ud800北京", "🙂 3.14", "ABC12"])
def test_any_text_has_as_many_tags_as_characters(text: str) -> None:
    assert Tagger("rjieba").tags(text).shape == (len(text),)
    assert not Tagger("none").tags(text).any()


def test_jieba_tags_as_rjieba_does() -> None:
    pytest.importorskip("jieba")
    text = "清朝乾隆皇帝于1755年在北京修建了清漪园，耗银448万两"
    same = Tagger("jieba").tags(text) == Tagger("rjieba").tags(text)
    assert np.mean(same) > 0.9
