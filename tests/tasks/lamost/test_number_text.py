import json

import numpy as np
import pytest

from kexue_cli.tasks.lamost import number_text
from kexue_cli.tasks.lamost.number_text import parse_rows, parse_slowly


@pytest.fixture(params=["compiled", "plain"])
def parser(request, monkeypatch):
    if request.param == "compiled":
        pytest.importorskip("numba")
    else:
        monkeypatch.setattr(number_text, "compiled", lambda: False)
    return parse_rows


def as_python(words):
    return np.array([float(word) for word in words]).astype(np.float32)


def test_every_way_of_writing_a_number_gives_pythons_bits(parser):
    rng = np.random.default_rng(0)
    values = rng.normal(size=300) * 10.0 ** rng.integers(-12, 12, 300)
    words = [f"{v:.{rng.integers(0, 12)}f}" for v in values] + [f"{v:.6e}" for v in values]
    words += [repr(float(v)) for v in values] + [str(int(v)) for v in values]
    words += ["0", "-0.0", "1.", ".5", "-.25", "1e22", "1e-22", "9007199254740993", "1E+05"]
    words += ["123456789012345678901234567890", "3.4e38", "1e-300", "5e-324", "nan", "-inf", "+3.5"]
    out = np.empty((1, len(words)), np.float32)
    assert parser([",".join(words).encode()], out) == []
    np.testing.assert_array_equal(out[0].view(np.int32), as_python(words).view(np.int32))


@pytest.mark.parametrize(
    "text", ["1,2,3\n", "1,2,3", "1, 2, 3\r\n", "[1, 2, 3]", "1 2 3", "1\n2\n3\n"]
)
def test_line_ends_blanks_and_brackets_do_no_harm(parser, text):
    out = np.zeros((1, 3), np.float32)
    assert parser([text.encode()], out) == []
    assert out.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,2", "expected 3 numbers, found 2"),
        ("1,2,3,4", "expected 3 numbers, found 4"),
        ("", "it is empty"),
        ("\n", "it is empty"),
        ("1,two,3", "'two' is not a number"),
        ("1,2,,", "expected 3 numbers, found 2"),
        ("1,2-3,4", "'2-3' is not a number"),
        ("1,1.2.3,4", "'1.2.3' is not a number"),
        ("1,-,4", "'-' is not a number"),
        ("1,2e,4", "'2e' is not a number"),
        ("1,-1e300,inf", "'-1e300' is too large for float32"),
        (f"1,2,1{'0' * 39}", f"'1{'0' * 39}' is too large"),
    ],
)
def test_a_bad_text_is_told_from_its_good_neighbours(parser, text, complaint):
    out = np.zeros((3, 3), np.float32)
    complaints = parser([b"1,2,3", text.encode(), b"4,5,6\n"], out)
    assert [row for row, _ in complaints] == [1]
    assert complaint in complaints[0][1]
    assert out[[0, 2]].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_the_posts_own_reading_gives_the_same_numbers(parser):
    rng = np.random.default_rng(5)
    rows = rng.normal(200, 50, (20, 2600)).round(3)
    texts = [",".join(map(str, row)).encode() for row in rows]
    out = np.empty(rows.shape, np.float32)
    assert parser(texts, out) == []
    expected = np.array([json.loads(f"[{text.decode()}]") for text in texts]).astype(np.float32)
    np.testing.assert_array_equal(out, expected)


def test_text_that_is_no_text_is_shown_shortened():
    complaint = parse_slowly(bytes(range(128, 256)), np.empty(4, np.float32))
    assert complaint is not None
    assert len(complaint) < 120
