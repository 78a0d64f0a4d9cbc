"""A source is encoded once, and what is odd about it is told of the file that was asked for."""

from pathlib import Path

from kexue_cli.run.console import Console
from kexue_cli.tasks.dgcnn.encoding import TextSettings
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.problems import Rules
from kexue_cli.tasks.dgcnn.sources import SourceOpener
from kexue_cli.tasks.dgcnn.tags import Tagger
from kexue_cli.tasks.dgcnn.words import WordCutter

TEXT = TextSettings(Normaliser(), WordCutter("none"), Tagger("none"))


def test_problems_name_the_file_asked_for_also_from_the_cache(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "q.json"
        path.write_text('[{"question": "?", "passages": ["", "x"]}]', encoding="utf-8")
        opener = SourceOpener(TEXT, Rules(), tmp_path / "cache", Console(quiet=True))
        opener.open_file(path)
        assert [row[1] for row in opener.problems.listed] == [str(path)]
    assert len([p for p in (tmp_path / "cache" / "dgcnn").iterdir() if p.is_dir()]) == 1
