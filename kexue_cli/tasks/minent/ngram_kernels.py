"""Compiled inner loops of n-gram counting: pack, sort, run-length, merge, prefixes.

A key packs `order` symbols of `bits` bits into one uint64, the first symbol highest, so that
numerical order is alphabetical order and the first m symbols are the key shifted right. Symbol 0
fills the places beyond the end of a piece.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kexue_cli.extras import require

numba = require("numba", extra="minent")

Keys = NDArray[np.uint64]
DIGIT_BITS = 11  # of a radix pass: 2048 counters stay in the first-level cache
IN_WORDS, SKIPPED, SKIPPED_END, ATTACHED, JOINING = 1, 2, 3, 4, 8  # kinds of characters
NO_GAP, WORD_END, JOINED = 0, 1, 2  # what lies between a character and the one before it


@numba.njit(nogil=True, cache=True)
def pack_keys(
    symbols: NDArray[np.uint32], owned: int, order: int, bits: int, full_only: bool, keys: Keys
) -> int:
    """Write the key of every window that starts at one of the first `owned` symbols; how many.

    `symbols` (length,) is a stream of pieces, each ended by a 0; `keys` (at least owned,) receives
    them. With `full_only` windows cut short by the piece's end are left out.
    """
    shift = np.uint64(bits)
    top = np.uint64((order - 1) * bits)
    last = (np.uint64(1) << shift) - np.uint64(1)
    key, count = np.uint64(0), 0
    for i in range(symbols.size - 1, -1, -1):
        if symbols[i] == 0:
            key = np.uint64(0)
            continue
        key = (np.uint64(symbols[i]) << top) | (key >> shift)
        if i < owned and (not full_only or (key & last) != 0):
            keys[count] = key
            count += 1
    return count


@numba.njit(nogil=True, cache=True)
def lay_out(
    characters: NDArray[np.uint32],
    starts: NDArray[np.int64],
    symbol_of: NDArray[np.uint32],
    padding: int,
    joins: bool,
    stream: NDArray[np.uint32],
) -> int:
    """Write pieces as a stream of symbols, a 0 between two of them; returns its length.

    The last piece is left open. With `padding` every piece is preceded by that many symbols 1 and
    ended by a symbol 2. With `joins` the first piece goes on with one that is open already.
    """
    n = 0
    for piece in range(starts.size - 1):
        if piece > 0:
            if padding:
                stream[n] = 2
                n += 1
            stream[n] = 0
            n += 1
        if piece > 0 or not joins:
            stream[n : n + padding] = 1
            n += padding
        for i in range(starts[piece], starts[piece + 1]):
            stream[n] = symbol_of[characters[i]]
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def stream_text(
    raw: NDArray[np.uint32],
    kinds: NDArray[np.uint8],
    symbol_of: NDArray[np.uint32],
    padding: int,
    state: NDArray[np.int64],
    stream: NDArray[np.uint32],
) -> int:
    """Write raw text as a stream of symbols, a 0 after each piece; returns its length.

    `kinds` says of every code point: 0 no word holds it, IN_WORDS, SKIPPED, SKIPPED_END (it ends a
    word besides). The first two may have ATTACHED added (it goes with the character before) and
    JOINING (the next one goes with it, too). `state` (2,) carries from block to block whether a
    piece is open and what the next character finds, a gap; at first it is 0, WORD_END. Marks are as
    in `lay_out`.
    """
    is_open, gap = state[0], state[1]
    goes_on = is_open == 1 and gap == NO_GAP
    n = 0
    for code in raw:
        kind = kinds[code]
        if kind == IN_WORDS and goes_on:  # most characters of most texts: nothing more to ask
            stream[n] = symbol_of[code]
            n += 1
            continue
        if kind & SKIPPED:
            if kind == SKIPPED_END:
                gap, goes_on = WORD_END, False
            continue
        joining = kind & JOINING != 0
        if gap == JOINED or (kind & ATTACHED and gap == NO_GAP):
            kind = is_open  # in words or not, as the character before it
        in_words = kind & IN_WORDS != 0
        if is_open and (gap == WORD_END or not in_words):
            if padding:
                stream[n] = 2
                n += 1
            stream[n] = 0
            n += 1
            is_open = 0
        gap = JOINED if joining else NO_GAP
        goes_on = in_words and not joining
        if not in_words:
            continue
        if not is_open:
            stream[n : n + padding] = 1
            n += padding
            is_open = 1
        stream[n] = symbol_of[code]
        n += 1
    state[0], state[1] = is_open, gap
    return n


@numba.njit(nogil=True, cache=True)
def radix_sort(keys: Keys, spare: Keys, bits: int) -> Keys:
    """Sort keys below 2**bits; both arrays are overwritten, the one that holds them is returned."""
    passes = (bits + DIGIT_BITS - 1) // DIGIT_BITS
    mask = np.uint64((1 << DIGIT_BITS) - 1)
    histogram = np.zeros((passes, 1 << DIGIT_BITS), np.int64)
    for i in range(keys.size):
        for p in range(passes):
            histogram[p, (keys[i] >> np.uint64(p * DIGIT_BITS)) & mask] += 1
    for p in range(passes):
        places = histogram[p]
        if places.max() == keys.size:  # every key has the same digit here
            continue
        total = 0
        for digit in range(places.size):
            total, places[digit] = total + places[digit], total
        shift = np.uint64(p * DIGIT_BITS)
        for i in range(keys.size):
            digit = (keys[i] >> shift) & mask
            spare[places[digit]] = keys[i]
            places[digit] += 1
        keys, spare = spare, keys
    return keys


@numba.njit(nogil=True, cache=True)
def run_length(keys: Keys, counts: NDArray[np.uint32]) -> int:
    """Reduce sorted keys in place to distinct ones with their `counts`; returns how many."""
    distinct = 0
    i = 0
    while i < keys.size:
        key, first = keys[i], i
        while i < keys.size and keys[i] == key:
            i += 1
        keys[distinct] = key
        counts[distinct] = i - first
        distinct += 1
    return distinct


@numba.njit(nogil=True, cache=True)
def merge_add(
    keys_a: Keys,
    counts_a: NDArray[np.uint64],
    keys_b: Keys,
    counts_b: NDArray[np.uint64],
    keys: Keys,
    counts: NDArray[np.uint64],
) -> int:
    """Merge two sorted runs of distinct keys, adding counts of equal ones; returns the length."""
    i = j = n = 0
    while i < keys_a.size and j < keys_b.size:
        a, b = keys_a[i], keys_b[j]
        take_a, take_b = a <= b, b <= a
        keys[n] = a if take_a else b
        counts[n] = (counts_a[i] if take_a else np.uint64(0)) + (
            counts_b[j] if take_b else np.uint64(0)
        )
        i += take_a
        j += take_b
        n += 1
    while i < keys_a.size:
        keys[n], counts[n] = keys_a[i], counts_a[i]
        i, n = i + 1, n + 1
    while j < keys_b.size:
        keys[n], counts[n] = keys_b[j], counts_b[j]
        j, n = j + 1, n + 1
    return n


@numba.njit(nogil=True, cache=True)
def prefix_counts(
    keys: Keys,
    counts: NDArray[np.uint64],
    drop_bits: int,
    bits: int,
    prefixes: Keys,
    totals: NDArray[np.uint64],
) -> int:
    """Counts of the keys' prefixes (keys shifted right by `drop_bits`), short ones left out.

    Returns how many distinct prefixes were written to `prefixes` and `totals`.
    """
    shift = np.uint64(drop_bits)
    last = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    n = 0
    for i in range(keys.size):
        prefix = keys[i] >> shift
        if (prefix & last) == 0:
            continue
        if n and prefixes[n - 1] == prefix:
            totals[n - 1] += counts[i]
        else:
            prefixes[n], totals[n] = prefix, counts[i]
            n += 1
    return n


@numba.njit(nogil=True, cache=True)
def count_prefixes(keys: Keys, drop_bits: int, bits: int) -> int:
    """How many distinct prefixes of full length there are: the room `prefix_counts` needs."""
    shift = np.uint64(drop_bits)
    last = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    n, previous = 0, np.uint64(0)
    for i in range(keys.size):
        prefix = keys[i] >> shift
        if (prefix & last) != 0 and prefix != previous:
            n += 1
            previous = prefix
    return n


@numba.njit(nogil=True, cache=True)
def whole_windows(keys: Keys, counts: NDArray[np.uint32], order: int, bits: int) -> tuple[int, int]:
    """Of sorted distinct keys: the longest n-gram there is, and how many windows of full length."""
    last = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    whole, longest = 0, 0
    for i in range(keys.size):
        if (keys[i] & last) != 0:
            whole += int(counts[i])
    if whole:
        return order, whole
    for i in range(keys.size):
        while (
            longest < order - 1
            and ((keys[i] >> np.uint64((order - 1 - longest) * bits)) & last) != 0
        ):
            longest += 1
    return longest, whole


@numba.njit(nogil=True, cache=True)
def frequent_prefixes(
    keys: Keys,
    counts: NDArray[np.uint64],
    order: int,
    bits: int,
    at_least: int,
    last_key: Keys,
    seen: NDArray[np.int64],
    found: Keys,
    numbers: NDArray[np.uint64],
    filled: NDArray[np.int64],
) -> None:
    """Write the prefixes of every order seen `at_least` times that end within these records.

    The records are a part of all, in key order; a key 0 of count 0 at the very end closes what is
    open. Carried from part to part: last_key (1,), the last key so far, and seen (3, order + 1):
    seen[0, 0] windows so far, seen[1, m] those before the prefix of m symbols that is open,
    seen[2, m] m-grams so far, the rare ones included. Row m - 1 of `found` and of `numbers` (order,
    at least records + 1) receives the frequent m-grams, filled (order,) how many there are.
    """
    last = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    filled[:] = 0
    before, total = last_key[0], seen[0, 0]
    for i in range(keys.size):
        key, m = keys[i], order
        drop = np.uint64(0)
        while m > 0 and (key >> drop) != (before >> drop):
            prefix, count = before >> drop, total - seen[1, m]
            if (prefix & last) != 0 and count > 0:
                seen[2, m] += count
                if count >= at_least:
                    found[m - 1, filled[m - 1]] = prefix
                    numbers[m - 1, filled[m - 1]] = count
                    filled[m - 1] += 1
            seen[1, m] = total
            drop += np.uint64(bits)
            m -= 1
        before = key
        total += np.int64(counts[i])
    last_key[0], seen[0, 0] = before, total
