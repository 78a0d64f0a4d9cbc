"""Ids of characters: padding, unknown, then by frequency."""

import numpy as np
import pytest

from kexue_cli.tasks.dgcnn.vocabulary import Vocabulary, codes


def test_ids_go_by_frequency_from_two() -> None:
    vocabulary = Vocabulary.of_texts(["山山山水水", "水水火"], min_count=2)
    assert vocabulary.characters == "水山"
    assert vocabulary.encode("山水火\ud800").tolist() == [3, 2, 1, 1]
    assert len(vocabulary) == 4


def test_code_points_beyond_sixteen_bits_are_one_character() -> None:
    np.testing.assert_array_equal(codes("𬭳a"), [0x2CB73, 97])


def test_a_character_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        Vocabulary("aa")
