from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage import cli
from kexue_cli.manage.store import read_run
from kexue_cli.report.run_page import read_curves, run_page
from kexue_cli.report.sweep_page import sweep_page
from tests.fake_runs import write_json, write_run, write_table

VOID = {"meta", "br", "img", "hr", "input", "link"}
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)


class Balance(HTMLParser):
    """Fails where a tag is closed that is not open; collects every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tiny_png() -> bytes:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    image = zlib.compress(b"\x00\xff\x00\x00")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", image) + chunk(b"IEND", b"")
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with everything a page can show."""
    path = write_run(
        tmp_path / "outputs/lamost/conv1d_res/2026-11-20_10-00-00-aaaa",
        expected={"valid/macro_f1": {"value": 0.83, "source": "the <contest>"}},
        throughput={"cross_entropy": {"value": 123.4, "unit": "spectra/s"}},
    )
    (path / "plots").mkdir()
    (path / "plots" / "confusion.png").write_bytes(tiny_png())
    (path / "samples.txt").write_text("今天天气不错 <script>alert(1)</script>")
    write_table(path / "predictions.csv", {"id": ["007"], "prediction": ["star"], "p": [0.25]})
    write_table(path / "classes_valid.csv", {"class": ["star"], "f1": [0.5]})
    (path / "submission.csv").write_text("007,star\n")
    return path


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two parameters and two seeds; one job failed, one never ran."""
    path = tmp_path / "outputs/lamost/sweeps/2026-11-20_10-00-00-bbbb"
    jobs = []
    for number in range(8):
        a, b, seed = number & 1, number >> 1 & 1, number >> 2
        overrides = ["task=lamost", f"model.a={a}", f"model.b=w{b}", f"seed={seed}"]
        jobs.append({"number": number, "overrides": overrides})
        (path / "jobs").mkdir(parents=True, exist_ok=True)
        if number == 6:
            continue
        status = "failed" if number == 7 else "done"
        write_run(path / str(number), status=status, seed=seed, value=0.5 + a / 10 + b / 5)
        report = {"number": number, "status": status, "wall_seconds": 1.5}
        error = "Traceback …\nValueError: <nan>" if status == "failed" else None
        write_json(path / "jobs" / f"{number}.json", report | {"error": error})
    write_json(path / "sweep.json", {"schema_version": 1, "flags": [], "jobs": jobs})
    return path


def check(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    outside = [a for a in parser.addresses if not a.startswith("data:") and "/" in a]
    assert outside == []
    assert "http://" not in page
    assert "https://" not in page
    return page


def test_page_of_a_run_holds_everything_and_escapes_it(run: Path) -> None:
    page = check(run_page(read_run(run)))
    for text in ("conv1d_res", "0.83", "the &lt;contest&gt;", "data:image/png;base64,", "007"):
        assert text in page
    assert "今天天气不错" in page
    assert "<script>alert" not in page
    assert "123.4 spectra/s" in page


def test_page_of_a_half_deleted_run_says_what_is_wrong(run: Path) -> None:
    for name in ("run.json", "config.yaml", "metrics.json", "metrics.jsonl"):
        (run / name).unlink()
    assert "has no run.json" in check(run_page(read_run(run)))


def test_page_of_a_run_being_written_now(tmp_path: Path) -> None:
    path = write_run(tmp_path / "2026-11-20_10-00-00-aaaa", status="running")
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "split": "train", "lo')
    page = check(run_page(read_run(path)))
    assert "running" in page
    assert max(x for x, _ in read_curves(path / "metrics.jsonl")["loss"]["train"]) == 4


def test_curves_leave_out_what_is_no_number(tmp_path: Path) -> None:
    lines = [
        {"step": 0, "split": "train", "loss": 1.0, "stage": "one", "ok": True, "shares": [1, 2]},
        {"step": 1, "split": "train", "loss": None},
        {"no step": 1},
    ]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\nrubbish\n[1]\n")
    assert read_curves(path) == {"loss": {"train": [(0, 1.0)]}}


def test_page_of_a_sweep_shows_means_interaction_and_failures(sweep: Path) -> None:
    page = check(sweep_page(sweep))
    assert "6 of 8" in page
    assert "ValueError: &lt;nan&gt;" in page
    assert "Parallel coordinates" in page
    assert "model.b →" in page
    assert "0.5 ± 0" in page


def test_page_of_a_sweep_without_any_result(sweep: Path) -> None:
    for number in range(8):
        shutil.rmtree(sweep / str(number), ignore_errors=True)
        (sweep / "jobs" / f"{number}.json").unlink(missing_ok=True)
    assert "pending" in check(sweep_page(sweep))


def test_command_writes_the_page(run: Path, sweep: Path, tmp_path: Path) -> None:
    root = ["--root", str(tmp_path / "outputs")]
    assert cli.main(["report", "aaaa", *root]) == 0
    assert (run / "report.html").stat().st_size > 5000
    assert cli.main(["report", "bbbb", "--out", str(tmp_path / "s.html"), *root]) == 0
    assert (tmp_path / "s.html").exists()
    assert cli.main(["report", "zzzz", *root]) == 2


def test_a_sweep_json_of_a_newer_version_is_refused(sweep: Path) -> None:
    write_json(sweep / "sweep.json", {"schema_version": 99})
    with pytest.raises(UserError, match="newer version"):
        sweep_page(sweep)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: the pages are not looked at in a browser")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_in_a_real_browser(
    browser: Any, run: Path, sweep: Path, kind: str, width: int, scheme: str
) -> None:
    directory = run if kind == "run" else sweep
    text = run_page(read_run(run)) if kind == "run" else sweep_page(sweep)
    (directory / "report.html").write_text(text)
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    errors: list[str] = []
    requests: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.extend([message.text] * (message.type == "error")))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((directory / "report.html").as_uri())
    assert errors == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    if kind == "run":
        page.hover("svg[data-curves]")
        assert page.inner_text(".reading >> nth=0").startswith("step ")
        assert page.evaluate("document.querySelector('img').naturalWidth") == 1
    else:
        head = page.locator("table.sortable >> nth=1").locator("th", has_text="valid/macro_f1")
        head.first.click()
        head.first.click()
        first = page.locator("table.sortable >> nth=1").locator("tbody tr >> nth=0")
        assert "0.8" in first.inner_text()
    page.close()
