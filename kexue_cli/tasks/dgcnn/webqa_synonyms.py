"""When two answers mean the same under WebQA's fuzzy rules (Li et al. 2016, arXiv 1607.06275).

The rules about units, titles, dynasties, colours and the like are here; the tool's synonyms, which
its authors fitted to the validation and test questions, and its complete list of Chinese counties
are not part of this package. `Lists.of_tool` reads them from the tool's own `evaluation` folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.tasks.dgcnn.element_table import read_table
from kexue_cli.tasks.dgcnn.text_files import as_text
from kexue_cli.tasks.dgcnn.webqa_names import COUNTRIES, PEOPLES, UNITS
from kexue_cli.tasks.dgcnn.webqa_regions import RegionMatcher, longest_first, provinces

# In Unicode 5.2, which the tool knows, the Mongolian vowel separator is white space.
WHITE_SPACE = re.compile(r"[\s\u180e]+")
DIGITS = r"〇一二三四五六七八九十百千万亿兆\d"
QUOTED = re.compile(r"ur'((?:[^'\\]|\\.)*)'")


@dataclass(frozen=True)
class Lists:
    """Names that the rules speak of, sets of synonyms, divisions as (code, name)."""

    countries: list[str] = field(default_factory=lambda: COUNTRIES)
    elements: list[str] = field(default_factory=lambda: [e.name for e in read_table()])
    units: list[str] = field(default_factory=lambda: UNITS)
    peoples: list[str] = field(default_factory=lambda: PEOPLES)
    regions: list[tuple[str, str]] = field(default_factory=provinces)
    synonyms: list[list[str]] = field(default_factory=list)

    @classmethod
    def of_tool(cls, folder: Path) -> Lists:
        """The lists in `names.py`, `synsets.py` and `state_names.py` of WebQA's tool.

        Raises:
            UserError: a file is missing or of another form.
        """
        names = {
            match.group(1): QUOTED.findall(match.group(2))
            for match in re.finditer(
                r"^(\w+) = \((.*?)^\)", text_of(folder, "names.py"), re.M | re.S
            )
        }
        try:
            countries, elements, units, peoples = (
                names[key]
                for key in (
                    "country_and_region_names",
                    "chemical_element_names",
                    "measure_names",
                    "ethnic_group_names",
                )
            )
        except KeyError as error:
            raise UserError(f"{folder / 'names.py'}: expected a list named {error}") from error
        lines = text_of(folder, "synsets.py").splitlines()
        synonyms = [found for found in map(QUOTED.findall, lines) if found]
        regions = re.findall(r"^(\d{6})\s+(.+)$", text_of(folder, "state_names.py"), re.M)
        if not synonyms or not regions:
            raise UserError(f"{folder}: synsets.py or state_names.py holds no entries")
        regions = [(code, WHITE_SPACE.sub("", name)) for code, name in regions]
        return cls(countries, elements, units, peoples, regions, synonyms)


def text_of(folder: Path, name: str) -> str:
    """A file of the tool."""
    try:
        return as_text((folder / name).read_bytes(), str(folder / name))
    except OSError as error:
        raise UserError(
            f"{folder / name}: cannot be read ({error.strerror}); --lists expects the folder "
            "`evaluation` of WebQA's tool, with names.py, synsets.py and state_names.py"
        ) from error


class SynonymMatcher:
    """Compares an answer with a reference."""

    def __init__(self, lists: Lists) -> None:
        self._regions = RegionMatcher(lists.regions, lists.peoples)
        self._sets: dict[str, set[int]] = {}
        for number, words in enumerate(lists.synonyms):
            for word in words:
                self._sets.setdefault(word, set()).add(number)
        self._either, self._directed = rules(lists)

    def same(self, reference: str, answer: str) -> bool:
        """Whether `answer` is as good as `reference`; case and white space do not count."""
        if (first := plain(reference)) == (second := plain(answer)):
            return True
        if self._sets.get(first, set()) & self._sets.get(second, set()):
            return True
        return self._by_rule(first, second) or self._regions.same(
            WHITE_SPACE.sub("", reference), WHITE_SPACE.sub("", answer)
        )

    def _by_rule(self, reference: str, answer: str) -> bool:
        if len(reference) < len(answer):
            short, long = reference, answer
        else:
            short, long = answer, reference
        if short not in long:
            return False
        return any(rule.match(f"{short}#{long}") for rule in self._either) or any(
            rule.match(f"{reference}#{answer}") for rule in self._directed
        )


def plain(text: str) -> str:
    """Lower case without white space, one character for each as in the tool: İ is i, every Σ σ."""
    return "".join(character.lower()[0] for character in WHITE_SPACE.sub("", text))


def rules(lists: Lists) -> tuple[list[re.Pattern[str]], list[re.Pattern[str]]]:
    """Patterns of "shorter#longer", and of "reference#answer"."""
    units, countries = longest_first(lists.units), longest_first(lists.countries)
    elements = longest_first(lists.elements)
    either = [
        rf"([{DIGITS}]+)#第?\1(?:{units})",
        rf"([{DIGITS}]+(?:{units}))#第\1",
        rf"([{DIGITS}]+)#\1岁",
        rf"([{DIGITS}]+个)#\1[人月]",
        r"(十一|十二|[〇一二三四五六七八九十]|\d+)月?#\1月份",
        rf"([{DIGITS}]+)年?#公元前?\1年?",
        rf"([{DIGITS}]+[分秒])#\1钟",
        r"[《<]?<?(.+)>?[>》]#[《<]<?\1>?[>》]",
        r"[《<]?<?(.+)>?[>》]?#[《<]?<?\1>?[>》]",
        r"[《<]?<?(.+)>?[>》]?#[《<]<?\1>?[>》]?",
        r"(..)#\1座",
        r"(.+国)#\1人",
        rf"({countries})#\1人",
        r"([男女])#\1性",
        r"(.+)#\1(?:地区|族|民族|色)",
        r"([夏商周秦汉晋隋唐宋金元明清南北]|南北)#\1朝",
        r"(正比|反比)#(?:成\1|\1例)",
        rf"({elements})#\1元素",
    ]
    directed = [
        r"(.+)的#\1",
        r"([鼠牛虎兔龙蛇马羊猴鸡狗猪|])年#\1",
        r"(.+)#\1(?:公司|大学|罪|国)",
        r"[“‘'\"](.+)[”’'\"]#\1",
    ]
    return [re.compile(f"^{p}$") for p in either], [re.compile(f"^{p}$") for p in directed]
