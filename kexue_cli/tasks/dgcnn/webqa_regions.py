"""Which names of Chinese administrative divisions mean the same, as WebQA's tool holds them.

A name may leave its suffix out (北京 for 北京市), and larger divisions may stand before it
(广东省广州市 for 广州).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kexue_cli.tasks.dgcnn.webqa_names import PEOPLES, PROVINCES

SUFFIXES = "省市县旗区盟州"
LONG_SUFFIXES = ("自治", "特别行政")
PEOPLES_IN_NAMES = ("维吾尔", "哈萨克", "蒙古", "柯尔克孜", "塔吉克", "锡伯")
Regions = Iterable[tuple[str, str]]  # code of six digits, full name


def provinces() -> list[tuple[str, str]]:
    """The provinces alone."""
    return [(entry[:2] + "0000", entry[2:]) for entry in PROVINCES]


class RegionMatcher:
    """Compares names of divisions out of a list of (code, full name)."""

    def __init__(self, regions: Regions, peoples: Iterable[str] = PEOPLES) -> None:
        self._people = re.compile(f"^(.+)({longest_first(peoples)})$")
        self._codes: dict[str, set[str]] = {}
        full_names = []
        for code, name in regions:
            if short := self.short_name(name):
                self._codes.setdefault(short, set()).add(code)
                full_names.append(name)
        self._short = re.compile(longest_first(self._codes))
        self._sequence = re.compile(f"^({longest_first([*self._codes, *full_names])})+$")

    def short_name(self, name: str) -> str:
        """The name without what says its kind and its peoples."""
        if name[-1:] and name[-1] in SUFFIXES:
            name = name[:-1]
        for suffix in LONG_SUFFIXES:
            name = name.removesuffix(suffix)
        if found := self._people.match(name):
            name = found.group(1)
        for suffix in PEOPLES_IN_NAMES:
            name = name.removesuffix(suffix)
        return name

    def same(self, first: str, second: str) -> bool:
        """Whether one is the other, perhaps with larger divisions before it."""
        if not (self._sequence.match(first) and self._sequence.match(second)):
            return False
        parts = self._short.findall(first), self._short.findall(second)
        names = ["".join(part) for part in parts]
        if not (names[0].endswith(names[1]) or names[1].endswith(names[0])):
            return False
        if not all(self._is_known(name) for part in parts for name in part):
            return False
        longer = parts[1] if len(parts[0]) < len(parts[1]) else parts[0]
        return all(self._is_within(name, longer[0]) for name in longer[1:])

    def _codes_of(self, name: str) -> set[str]:
        return self._codes.get(name) or self._codes.get(self.short_name(name)) or set()

    def _is_known(self, name: str) -> bool:
        return bool(self._codes_of(name))

    def _is_within(self, small: str, large: str) -> bool:
        """Whether the code of one begins as that of the other does, zeros at its end left out."""
        inner = [code.rstrip("0") for code in self._codes_of(small)]
        outer = [code.rstrip("0") for code in self._codes_of(large)]
        return any(i != o and i.startswith(o) for i in inner for o in outer)


def longest_first(names: Iterable[str]) -> str:
    """A pattern of any of the names, the longest that fits."""
    return "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
