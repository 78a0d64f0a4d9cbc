"""The Bayesian word model: counts, probabilities and sampling against plain Python."""

import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from kexue_cli.tasks.minent import bigram, word_viterbi
from kexue_cli.tasks.minent.best import one_sweep
from kexue_cli.tasks.minent.bigram import Settings, count_bigrams, empty_bigrams, sample_sweep
from kexue_cli.tasks.minent.bigram_lexicon import learn_lexicon, spelled_along, word_spelling
from kexue_cli.tasks.minent.lattice import build_lattice
from kexue_cli.tasks.minent.spelling import learn_spelling, own_lengths
from kexue_cli.tasks.minent.word_trie import numba


@numba.njit
def set_seed(seed):
    """Of the random numbers that compiled functions draw."""
    np.random.seed(seed)


LINES = ["abcab", "cababc", "abdab", "cab", "bcabdd"]
SETTINGS = Settings(0.6, 1.5, 0.3, 2.0, np.exp(-0.1 * np.arange(4.0)), True)
INDEPENDENT = SETTINGS._replace(dependent=False)


def lattice_and_ends(seed=0, lines=LINES, max_length=3):
    text = np.array([ord(c) for line in lines for c in line], np.uint32)
    starts = np.cumsum([0, *map(len, lines)]).astype(np.int64)
    lattice = build_lattice(text, starts, max_length, 2)
    ends = np.random.default_rng(seed).random(len(text)) < 0.6
    ends[starts[1:] - 1] = True
    last = -1
    for i in range(len(ends)):  # no word longer than max_length
        if i - last >= max_length:
            ends[i] = True
        last = i if ends[i] else last
    return lattice, ends


def words_by_line(lines, ends):
    result, i = [], 0
    for line in lines:
        words, word = [], ""
        for c in line:
            word += c
            if ends[i]:
                words.append(word)
                word = ""
            i += 1
        result.append(words)
    return result


class PlainModel:
    """The same model with dictionaries; words seen once as substrings are new each time.

    Those of a learned lexicon (`known`) all have a name.
    """

    def __init__(self, lattice, lines, ends, spelling, settings=SETTINGS, known=None):
        candidates = {lattice.spell(i) for i in range(len(lattice.lengths))} | (known or set())
        self.lattice, self.spelling, self.settings = lattice, spelling, settings
        pairs: Counter = Counter()
        for words in words_by_line(lines, ends):
            named = [w if w in candidates else object() for w in words]
            if settings.dependent:
                pairs.update(itertools.pairwise(["|", *named, "|"]))
            else:
                pairs.update((i, w) for i, w in enumerate(named, len(pairs)))
        self.count(pairs)

    def count(self, pairs):
        settings = self.settings
        self.pairs = pairs if settings.dependent else {}
        self.tokens: defaultdict = defaultdict(int)
        self.after: defaultdict = defaultdict(int)
        self.before: defaultdict = defaultdict(int)
        for (v, w), n in pairs.items():
            self.before[w] += 1
            if settings.dependent:
                self.tokens[v] += n
                self.after[v] += 1

    def spell(self, word):
        symbols = np.array([list(map(chr, self.lattice.alphabet)).index(c) for c in word])
        size = self.spelling.size
        chain = np.concatenate(([size], symbols, [size]))
        steps = self.spelling.pair(chain[:-1], chain[1:])
        return math.prod(steps) * self.spelling.length[len(word)]

    def unigram(self, w):
        total, types = sum(self.before.values()), len(self.before)
        spread = total + SETTINGS.word_strength
        back = (SETTINGS.word_discount * types + SETTINGS.word_strength) / spread
        base = 0.0 if w == "|" else self.spell(w)
        if w == "|" and not self.settings.dependent:
            return 1.0  # every segmentation has one end
        return max(self.before.get(w, 0) - SETTINGS.word_discount, 0) / spread + back * base

    def probability(self, v, w):
        spread = self.tokens.get(v, 0) + SETTINGS.strength
        back = (SETTINGS.discount * self.after.get(v, 0) + SETTINGS.strength) / spread
        direct = max(self.pairs.get((v, w), 0) - SETTINGS.discount, 0) / spread
        return direct + back * self.unigram(w)

    def weight(self, words):
        """Weight of a whole line; the end mark without back-off spelling, as compiled."""
        chain = ["|", *words, "|"]
        value = math.prod(self.probability(v, w) for v, w in itertools.pairwise(chain))
        return value * math.prod(SETTINGS.length_weight[len(w)] for w in words)


def all_segmentations(line, max_length=3):
    for cuts in itertools.product([False, True], repeat=len(line) - 1):
        words, word = [], ""
        for c, cut in zip(line, [*cuts, True], strict=True):
            word += c
            if cut:
                words.append(word)
                word = ""
        if all(len(w) <= max_length for w in words):
            yield words


def prepared(ends, lattice, settings=SETTINGS):
    bigrams = empty_bigrams(len(lattice.lengths), 100)
    count_bigrams(lattice.ids, lattice.starts, ends, bigrams, settings.dependent)
    spelling = word_spelling(lattice, ends, 3)
    return bigrams, spelling, spelled_along(spelling, lattice.symbols)


def test_counts_equal_a_dictionary():
    lattice, ends = lattice_and_ends()
    bigrams, spelling, _ = prepared(ends, lattice)
    plain = PlainModel(lattice, LINES, ends, spelling)
    assert bigrams.totals.tolist() == [len(plain.pairs), len(plain.before)]
    for i in range(len(lattice.lengths)):
        word = lattice.spell(i)
        assert bigrams.tokens[i] == plain.tokens.get(word, 0)
        assert bigrams.after[i] == plain.after.get(word, 0)
        assert bigrams.before[i] == plain.before.get(word, 0)


def test_counts_of_independent_words_are_their_tokens():
    lattice, ends = lattice_and_ends()
    bigrams, spelling, _ = prepared(ends, lattice, INDEPENDENT)
    plain = PlainModel(lattice, LINES, ends, spelling, INDEPENDENT)
    assert bigrams.totals.tolist() == [sum(plain.before.values()), len(plain.before)]
    for i in range(len(lattice.lengths)):
        assert bigrams.before[i] == plain.before.get(lattice.spell(i), 0)
    assert not bigrams.tokens.any()


@pytest.mark.parametrize("settings", [SETTINGS, INDEPENDENT], ids=["bigram", "independent"])
@pytest.mark.parametrize("seed", range(5))
def test_viterbi_finds_the_heaviest_segmentation(seed, settings):
    lattice, ends = lattice_and_ends(seed)
    model = learn_lexicon(lattice, ends, settings)
    plain = PlainModel(lattice, LINES, ends, model.spelling, settings, known=set(model.words.words))
    for line in [*LINES, "ddddd", "bac"]:
        text = np.array([ord(c) for c in line], np.uint32)
        found = words_by_line([line], model.cut(text, np.array([0, len(line)])))[0]
        heaviest = max(map(plain.weight, all_segmentations(line)))
        assert plain.weight(found) == pytest.approx(heaviest)


def test_a_piece_longer_than_a_window_is_cut_as_one(monkeypatch):
    lattice, ends = lattice_and_ends(4, LINES * 20)
    model = learn_lexicon(lattice, ends, SETTINGS)
    rng = np.random.default_rng(0)
    text = np.frombuffer("".join(rng.choice(LINES, 8000)).encode("utf-32-le"), "<u4")
    assert len(text) > 2 * word_viterbi.WINDOW
    whole = np.array([0, len(text)])
    cut = model.cut(text, whole)
    part = word_viterbi.WINDOW - word_viterbi.SAFE_TAIL - 100
    first = model.cut(text[: word_viterbi.WINDOW - 50], np.array([0, word_viterbi.WINDOW - 50]))
    np.testing.assert_array_equal(cut[:part], first[:part])
    assert cut[-1]
    assert max(np.diff(np.flatnonzero(cut))) <= 3


@pytest.mark.parametrize("settings", [SETTINGS, INDEPENDENT], ids=["bigram", "independent"])
def test_samples_follow_the_posterior_of_a_line_given_the_others(settings):
    lattice, ends = lattice_and_ends(3)
    _, spelling, spelled = prepared(ends, lattice, settings)
    others = ends.copy()
    target = LINES[1]
    begin, end = (int(x) for x in lattice.starts[1:3])
    rest = LINES[:1] + LINES[2:]
    plain = PlainModel(lattice, rest, np.delete(ends, np.arange(begin, end)), spelling, settings)
    weights = {" ".join(w): plain.weight(w) for w in all_segmentations(target)}
    total = sum(weights.values())
    seen: Counter = Counter()
    draws = 3000
    for seed in range(draws):
        now = others.copy()
        bigrams = empty_bigrams(len(lattice.lengths), 100)
        count_bigrams(lattice.ids, lattice.starts, now, bigrams, settings.dependent)
        log_weight = sample_sweep(
            np.array([1]), lattice.ids, lattice.starts, now, bigrams, spelled, settings, seed
        )
        seen[" ".join(words_by_line([target], now[begin:end])[0])] += 1
    for words, weight in weights.items():
        share = weight / total
        assert abs(seen[words] / draws - share) < 4.5 * math.sqrt(share / draws) + 1e-3
    assert log_weight < 0


def test_a_stretch_of_a_piece_is_sampled_given_the_words_around_it():
    lattice, ends = lattice_and_ends(3)
    begin, end = (int(x) for x in lattice.starts[1:3])  # ca|bab|c
    ends[begin:end] = [False, True, False, False, True, True]
    _, spelling, spelled = prepared(ends, lattice)
    rest = LINES[:1] + LINES[2:]
    plain = PlainModel(lattice, rest, np.delete(ends, np.arange(begin, end)), spelling)
    plain.count(Counter(plain.pairs) + Counter([("|", "ca"), ("c", "|")]))
    weights = {" ".join(w): plain.weight(["ca", *w, "c"]) for w in all_segmentations("bab")}
    seen: Counter = Counter()
    draws, room = 3000, bigram._room(lattice.starts, 3)
    words = (bigram._word(lattice.ids, begin, 2), bigram._word(lattice.ids, end - 1, 1))
    set_seed(0)
    for _ in range(draws):
        now, counts = ends.copy(), empty_bigrams(len(lattice.lengths), 100)
        count_bigrams(lattice.ids, lattice.starts, now, counts, True)
        stretch = (lattice.ids, begin + 2, end - 1, *words, 1)
        bigram._sample(*stretch, now, counts, spelled, SETTINGS, room)
        seen[" ".join(words_by_line(["bab"], now[begin + 2 : end - 1])[0])] += 1
    for cut, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(seen[cut] / draws - share) < 4.5 * math.sqrt(share / draws) + 1e-3


def test_words_of_one_long_line_are_kept_like_those_of_many_short_ones():
    rng = np.random.default_rng(0)
    lexicon = ["".join(rng.choice(list("abcdefgh"), n)) for n in rng.integers(2, 5, 40)]
    words = rng.choice(lexicon, 2000)
    text, gold = "".join(words), np.cumsum([len(w) for w in words]) - 1
    found = []
    for lines in ([text], ["".join(words[i : i + 20]) for i in range(0, 2000, 20)]):
        lattice, _ = lattice_and_ends(0, lines, 4)
        settings = SETTINGS._replace(length_weight=np.exp(-0.1 * np.arange(5.0)))
        ends = np.isin(np.arange(len(text)), gold)
        for sweep in range(5):
            one_sweep(lattice, ends, settings, sweep)
        cut = np.flatnonzero(ends)
        found.append(2 * len(np.intersect1d(cut, gold)) / (len(cut) + len(gold)))
    assert min(found) > 0.9


@pytest.mark.parametrize("lines", [LINES, ["".join(LINES) * 60, *LINES]], ids=["short", "long"])
def test_a_sweep_keeps_the_counts_true(lines):
    lattice, ends = lattice_and_ends(1, lines)
    bigrams, _, spelled = prepared(ends, lattice)
    order = np.arange(len(lines))
    sample_sweep(order, lattice.ids, lattice.starts, ends, bigrams, spelled, SETTINGS, 7)
    fresh = empty_bigrams(len(lattice.lengths), 100)
    count_bigrams(lattice.ids, lattice.starts, ends, fresh, True)
    for name in ("tokens", "after", "before", "totals"):
        np.testing.assert_array_equal(getattr(bigrams, name), getattr(fresh, name), err_msg=name)


def test_same_seed_same_sweep():
    lattice, ends = lattice_and_ends(2)
    one, two = ends.copy(), ends.copy()
    assert one_sweep(lattice, one, SETTINGS, 5) == one_sweep(lattice, two, SETTINGS, 5)
    np.testing.assert_array_equal(one, two)


def test_spelling_probabilities_sum_to_one_and_lengths_are_those_of_the_words():
    symbols = np.array([0, 1, 0, 2, 2, 1, 0], np.int32)
    spelling = learn_spelling(symbols, np.array([2, 1, 3, 1]), 4, 6)
    second = np.arange(5)
    for first in range(5):
        assert spelling.pair(np.full(5, first), second).sum() == pytest.approx(1)
    own = own_lengths(spelling, 6)
    words = {n: 0.0 for n in range(1, 4)}
    for n in words:
        for word in itertools.product(range(4), repeat=n):
            chain = np.array([4, *word, 4])
            words[n] += spelling.pair(chain[:-1], chain[1:]).prod()
    assert own[1:4] == pytest.approx(list(words.values()))
    wanted = own[1:] * spelling.length[1:]
    assert wanted[:3] == pytest.approx(np.array([2, 1, 1]) / 4, abs=0.1)
    assert wanted.sum() == pytest.approx(1)


def test_learned_lexicon_cuts_its_own_text_like_viterbi_and_survives_saving():
    lattice, ends = lattice_and_ends(4, LINES * 20)
    model = learn_lexicon(lattice, ends, SETTINGS)
    text = lattice.alphabet[lattice.symbols]
    words = [w for line in words_by_line(LINES * 20, ends) for w in line]
    assert dict(zip(model.words.words, model.words.counts.tolist(), strict=True)) == Counter(words)
    copy = type(model).from_state(model.state_dict())
    np.testing.assert_array_equal(copy.cut(text, lattice.starts), model.cut(text, lattice.starts))
    unseen = np.array([ord(c) for c in "abxyzcab"], np.uint32)
    cut = model.cut(unseen, np.array([0, 8]))
    assert cut[-1]
