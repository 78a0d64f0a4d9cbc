from __future__ import annotations

import csv
import io
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_cli.manage import query, tables
from kexue_cli.manage.commands import compare, leaderboard
from kexue_cli.manage.store import find_runs
from tests.fake_runs import this_process, write_run

Kexue = Callable[..., tuple[int, str, str]]


@pytest.fixture
def six(root: Path) -> Path:
    """Two settings of three seeds."""
    for filters in (16, 32):
        for seed in range(3):
            write_run(
                root / "lamost/conv1d_res" / f"2026-11-20_10-00-0{seed}-{filters:04x}",
                seed=seed,
                value=filters / 100 + seed / 10,
                settings={"model.filters": filters},
                expected={"valid/macro_f1": {"value": 0.83, "source": "the contest"}},
            )
    return root


@pytest.mark.parametrize("format", tables.FORMATS)
def test_every_format_holds_every_run(six: Path, kexue: Kexue, format: str) -> None:
    code, out, err = kexue("runs", "--format", format)
    assert code == 0
    assert err == ""
    assert all(run.name in out for run in find_runs(six))


def test_csv_and_json_keep_full_precision(root: Path, kexue: Kexue) -> None:
    write_run(root / "t/m/2026-11-20_10-00-00-aaaa", value=math.pi)
    _, out, _ = kexue("runs", "--format", "json", "--columns", "valid/macro_f1")
    assert json.loads(out) == [{"valid/macro_f1": math.pi}]
    _, out, _ = kexue("runs", "--format", "csv", "--columns", "name,valid/macro_f1")
    assert list(csv.reader(io.StringIO(out)))[1][1] == repr(math.pi)


def test_the_best_comes_first_and_words_may_follow_options(six: Path, kexue: Kexue) -> None:
    words = ("--sort", "-valid/macro_f1", "--limit", 2, "--columns", "seed", "--format", "json")
    code, out, _ = kexue("runs", *words, "model.filters=32")
    assert code == 0
    assert json.loads(out) == [{"seed": 2}, {"seed": 1}]
    with pytest.raises(SystemExit):
        kexue("runs", "--no-such-option")


def test_compare_means_over_seeds_and_names_what_differs(six: Path, kexue: Kexue) -> None:
    rows = compare.comparison(find_runs(six))
    assert [(row["model.filters"], row["n"]) for row in rows] == [(16, 3), (32, 3)]
    values = [0.16, 0.26, 0.36]
    expected = f"{statistics.mean(values):.5g} ± {statistics.stdev(values):.2g}"
    assert rows[0]["valid/macro_f1"] == expected
    assert rows[0]["valid/macro_f1 published"] == 0.83
    assert "optim.lr" not in rows[0]
    code, out, _ = kexue("compare", *[run.path for run in find_runs(six)], "--each")
    assert code == 0
    assert len(out.strip().splitlines()) == 2 + 6


def test_compare_refuses_one_run_and_unknown_metrics(six: Path, kexue: Kexue) -> None:
    runs = [str(run.path) for run in find_runs(six)]
    assert kexue("compare", runs[0])[0] == 2
    code, _, err = kexue("compare", *runs, "--metrics", "test/nothing")
    assert code == 2
    assert "test/nothing" in err


def test_leaderboard_ranks_settings_and_never_mixes_data(six: Path, kexue: Kexue) -> None:
    write_run(six / "lamost/x/2026-11-20_10-00-00-ffff", data="cinc2017", value=0.99)
    boards = leaderboard.leaderboards(find_runs(six))
    assert [board[1] for board in boards] == ["cinc2017", "dash_sn"]
    ranked = boards["lamost", "dash_sn", "valid", "macro_f1", "max"]
    assert [(row["rank"], row["settings"], row["n"]) for row in ranked] == [
        (1, "model.filters=32", 3),
        (2, "model.filters=16", 3),
    ]
    assert ranked[0]["published"] == "valid/macro_f1 0.83"
    code, out, _ = kexue("leaderboard", "data=dash_sn")
    assert code == 0
    assert "higher is better" in out


def test_leaderboard_of_one_text_leaves_others_out(root: Path) -> None:
    for i, name in enumerate("abb"):
        path = root / f"gpt2/m/2026-11-20_10-00-0{i}-aaaa"
        settings = {"data.path": f"{name}.txt"}
        write_run(path, task="gpt2", data="text", seed=i, settings=settings)
    runs = query.select(find_runs(root), ["data.path=b.txt"])
    ((row,),) = leaderboard.leaderboards(runs).values()
    assert row["n"] == 2


@pytest.mark.parametrize("top", ["0", "-1"])
def test_leaderboard_of_no_rows_is_refused(six: Path, kexue: Kexue, top: str) -> None:
    code, _, err = kexue("leaderboard", f"--top={top}")
    assert code == 2
    assert f"--top must be at least 1, found {top}" in err


def test_leaderboard_of_a_loss_puts_the_lowest_first(root: Path) -> None:
    for i, value in enumerate((3.0, 1.0, 2.0)):
        path = write_run(
            root / "gpt2/m" / f"2026-11-20_10-00-0{i}-aaaa", task="gpt2", model=f"m{i}"
        )
        primary = {"name": "loss", "value": value, "mode": "min", "split": "valid"}
        (path / "metrics.json").write_text(
            json.dumps({"primary": primary, "valid": {"loss": value}})
        )
    (ranked,) = leaderboard.leaderboards(find_runs(root)).values()
    assert [row["model"] for row in ranked] == ["m1", "m2", "m0"]


def test_show_prints_published_beside_obtained(six: Path, kexue: Kexue) -> None:
    code, out, _ = kexue("show", "last")
    assert code == 0
    assert "the contest" in out
    assert "model.filters" in out
    content = json.loads(kexue("show", "last", "--format", "json")[1])
    assert content["config"]["model.filters"] == 32


def test_show_of_a_half_deleted_run_says_so(root: Path, kexue: Kexue) -> None:
    path = write_run(root / "t/m/2026-11-20_10-00-00-aaaa")
    (path / "run.json").unlink()
    code, out, _ = kexue("show", path)
    assert code == 0
    assert "problem: has no run.json" in out


def test_rm_deletes_what_was_named_and_keeps_running_runs(six: Path, kexue: Kexue) -> None:
    alive = write_run(
        six / "t/m/2026-11-20_10-00-00-aaaa", status="running", process=this_process()
    )
    code, _, err = kexue("rm", alive, "--yes")
    assert code == 2
    assert "still running" in err
    assert kexue("rm", "model.filters=16", "--dry-run")[0] == 0
    assert len(find_runs(six)) == 7
    code, out, _ = kexue("rm", "model.filters=16", "--yes")
    assert code == 0
    assert "3 directories deleted" in out
    assert len(find_runs(six)) == 4
    assert alive.exists()


def test_rm_takes_nothing_but_runs(tmp_path: Path, root: Path, kexue: Kexue) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    assert kexue("rm", precious, "--yes")[0] == 2
    assert precious.exists()


def test_unreadable_runs_are_noted_on_stderr_only(six: Path, kexue: Kexue) -> None:
    (find_runs(six)[0].path / "run.json").write_text("{")
    code, out, err = kexue("runs", "--format", "json")
    assert code == 0
    assert len(json.loads(out)) == 6
    assert "run.json cannot be read" in err


def test_chinese_columns_are_aligned() -> None:
    lines = tables.render([{"a": "数据", "b": 1}, {"a": "x", "b": 2}]).splitlines()
    assert tables.width(lines[2][: lines[2].index("1")]) == tables.width(
        lines[3][: lines[3].index("2")]
    )


def test_markdown_escapes_bars() -> None:
    assert tables.render([{"a": "x|y"}], format="markdown").splitlines()[-1] == "| x\\|y |"


@pytest.mark.parametrize("words", [["--help"], ["runs"], ["leaderboard"], ["data", "list"]])
def test_nothing_heavy_is_imported(six: Path, words: list[str]) -> None:
    program = (
        "import sys\nfrom kexue_cli.manage.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'hydra', 'rich') if m in sys.modules])"
    )
    environment = {
        "PATH": "",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KEXUE_OUTPUT_DIR": str(six),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
