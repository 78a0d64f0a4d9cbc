"""Pictures of a run: names that no font or only another font can draw, and few points."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kexue_cli.tasks.lamost import plots

pytest.importorskip("matplotlib")


def test_names_without_a_font_are_replaced_by_numbers() -> None:
    fonts = plots.fonts_for("恒星")
    assert fonts[0] == plots.OWN_FONT
    expected = "恒星" if len(fonts) == 2 else "class 3"
    assert plots.drawable("恒星", fonts, "class 3") == expected
    assert plots.drawable("é µ Å", plots.fonts_for("é µ Å"), "class 3") == "é µ Å"


def test_a_confusion_matrix_of_any_names_is_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plots.confusion(np.eye(3, dtype=np.int64), ["恒星", "$x_{", "a"], "valid", tmp_path)
    assert (tmp_path / "confusion_valid.png").is_file()


def test_a_stage_with_one_point_is_seen(tmp_path: Path) -> None:
    rows = [
        {"step": 4, "split": "train", "stage": "cross_entropy", "loss": 1.2},
        {"step": 4, "split": "valid", "stage": "cross_entropy", "macro_f1": 0.5, "accuracy": 0.6},
    ]
    log = tmp_path / "metrics.jsonl"
    log.write_text("\n".join(map(json.dumps, rows)))
    seen: list[Any] = []
    save = plots._save

    def keep(figure: Any, path: Path) -> None:
        seen.extend(line for axes in figure.axes for line in axes.get_lines())
        save(figure, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_save", keep)
        plots.learning_curves(log, tmp_path)
    curves = [line for line in seen if not line.get_label().startswith("_")]
    assert len(curves) == 3
    assert all(line.get_marker() == "." for line in curves)
