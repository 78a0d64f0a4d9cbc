"""The SogouQA contest's score: accuracy over accepted answers and F1 over characters.

Equal to the last bit to the contest's own tool (Python 2, `evaluate_tool/` in
github.com/bojone/dgcnn_for_reading_comprehension), whose rules follow from Python 2's byte strings:
text is bytes, lower case and white space mean ASCII only, bytes that are not UTF-8 are dropped.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kexue_cli.errors import UserError

# The contest's list, with the ideographic space U+3000 and DEL. A blank is none of its members: the
# list's two blank lines mean the empty string, which no character equals.
PUNCTUATION = frozenset(
    "`^~<=>|_-,;:!?/.'\"()[]{}@$*\\&#%+\x7f…‰※•—‖‘’“”№←↑→↓∴∨∵∶∩∈∑√∞≯≡≮≤≥≈≌⊥⊙⌒□◆◇◎●★☆♀♂¨°·§¤±"
    "\u3000、。〃々〈〉《》「」『』【】〓〔〕〖〗÷×′▲″△∠≠■ˇˉ￣￥＿！＄（），．：；？～﹑￠"
)
HALF_WIDTH = {0x3000: " ", **{code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}}
WHITE_SPACE = re.compile(rb"[ \t\n\r\f\v]+")
SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def _keep_surrogates(error: UnicodeError) -> tuple[str, int]:
    """Python 2's UTF-8 takes three-byte surrogates for characters; all else invalid is dropped."""
    assert isinstance(error, UnicodeDecodeError)
    found = SURROGATE.match(error.object, error.start)
    if found is None:
        return "", error.end
    return found.group().decode("utf-8", "surrogatepass"), found.end()


codecs.register_error("kexue-python2-ignore", _keep_surrogates)


def decode(text: bytes) -> str:
    """`text.decode("utf8", "ignore")` of Python 2."""
    return text.decode("utf-8", "kexue-python2-ignore")


def encode(text: str) -> bytes:
    """`text.encode("utf8")` of Python 2: a pair of surrogates becomes one character."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return joined.encode("utf-8", "surrogatepass")


@dataclass(frozen=True)
class Normaliser:
    """What the contest holds for equal: width, ASCII case, punctuation and blanks do not count."""

    punctuation: frozenset[str] = PUNCTUATION

    @cached_property
    def _blanks(self) -> dict[int, str]:
        return {ord(character): " " for character in self.punctuation}

    def without_punctuation(self, text: bytes) -> bytes:
        """Each punctuation character becomes a blank."""
        return encode(decode(text).translate(self._blanks))

    def __call__(self, text: bytes) -> bytes:
        """Half width, lower case, no punctuation, no white space."""
        half_width = encode(decode(text).translate(HALF_WIDTH))
        return WHITE_SPACE.sub(b"", self.without_punctuation(half_width.lower()))

    def parts(self, text: bytes) -> set[bytes]:
        """The parts of a list, whatever their order and their separators."""
        return {self(part) for part in self.without_punctuation(text).lower().split(b" ")}


@dataclass(frozen=True)
class Accepted:
    """The answers of one question: the standard one, and all that count as right."""

    standard: bytes
    all: frozenset[bytes]


def score(
    submission: Path, answers: Path, punctuation: Path | None = None
) -> dict[str, float | int]:
    """Score lines `id<TAB>answer` against lines `id<TAB>standard answer<TAB>accepted|accepted|…`.

    Every line of the submission counts, also a repeated one; questions without a line do not.
    Raises UserError, naming file and line, for another number of fields or an unknown id.
    """
    accepted = read_answers(answers)
    normalise = Normaliser(read_punctuation(punctuation)) if punctuation else Normaliser()
    n_lines = n_right = 0
    # Added one by one in the file's order: `sum` rounds differently from Python 3.12 on.
    total_f1 = 0.0
    for number, line in enumerate(lines_of(submission), start=1):
        fields = line.split(b"\t")
        if len(fields) != 2:
            raise UserError(
                f"{submission}, line {number}: expected 2 fields, id<TAB>answer, found "
                f"{len(fields)}: {shown(line)}; take tabs out of answers and delete empty lines"
            )
        if fields[0] not in accepted:
            raise UserError(
                f"{submission}, line {number}: id {shown(fields[0])} is not in {answers}; "
                "expected one of its ids, without blanks or a byte order mark"
            )
        answer = fields[1].strip()
        n_lines += 1
        n_right += is_right(answer, accepted[fields[0]], normalise)
        total_f1 += best_f1(answer, accepted[fields[0]], normalise)
    if n_lines == 0:
        raise UserError(f"{submission}: empty; expected lines id<TAB>answer")
    accuracy, f1 = n_right / n_lines, total_f1 / n_lines
    return {"accuracy": accuracy, "f1": f1, "mean": (accuracy + f1) / 2, "lines": n_lines}


def is_right(answer: bytes, accepted: Accepted, normalise: Normaliser) -> bool:
    """Whether it is an accepted answer, or lists the same parts as the standard answer."""
    if not answer:
        return False
    plain = normalise(answer)
    if plain in accepted.all or any(plain == normalise(other) for other in accepted.all):
        return True
    return normalise.parts(answer) == normalise.parts(accepted.standard)


def best_f1(answer: bytes, accepted: Accepted, normalise: Normaliser) -> float:
    """The best F1 over characters, counted with their multiplicity, with any accepted answer."""
    if not answer:
        return 0.0
    given = Counter(decode(normalise(answer)))
    best = 0.0
    for other in accepted.all:
        wanted = Counter(decode(normalise(other)))
        common = (given & wanted).total()
        if common:
            precision, recall = common / given.total(), common / wanted.total()
            best = max(best, 2 * precision * recall / (precision + recall))
    return best


def read_answers(path: Path) -> dict[bytes, Accepted]:
    """Accepted answers by question id; of a repeated id the last line counts."""
    answers = {}
    for number, line in enumerate(lines_of(path), start=1):
        fields = line.strip().split(b"\t")
        if len(fields) != 3:
            raise UserError(
                f"{path}, line {number}: expected 3 fields, id<TAB>standard answer<TAB>accepted "
                f"answers joined by |, found {len(fields)}: {shown(line)}"
            )
        answers[fields[0]] = Accepted(fields[1], frozenset(fields[2].split(b"|")))
    return answers


def read_punctuation(path: Path) -> frozenset[str]:
    """One character a line; only ASCII white space is stripped, so that U+3000 is kept."""
    characters = set()
    for number, line in enumerate(lines_of(path), start=1):
        try:
            character = line.strip().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}, line {number}: not UTF-8: {shown(line)}") from error
        if len(character) > 1:
            raise UserError(f"{path}, line {number}: expected one character, found {character!r}")
        characters.add(character)
    return frozenset(characters - {""})


def lines_of(path: Path) -> list[bytes]:
    """Lines without their line feeds; a carriage return stays and is white space."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    lines = content.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def shown(text: bytes) -> str:
    """A line for a message, cut at 60 characters."""
    readable = repr(text.decode("utf-8", "replace"))
    return readable if len(readable) <= 60 else readable[:59] + "…"
