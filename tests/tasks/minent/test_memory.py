"""The limit of memory: refused once, before counting, with a figure that works when followed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent import count_plan, memory
from kexue_cli.tasks.minent.count_plan import CountPlan
from kexue_cli.tasks.minent.memory import MARGIN_MIB, available_mib, check_memory, resident_mib
from kexue_cli.tasks.minent.ngrams import count_ngrams
from tests.tasks.minent.counting import Recorder, corpus_of
from tests.tasks.minent.test_pmi_cut import pmi_cut, sentences


def advised_mib(message: str) -> int:
    found = re.search(r"give (\d+) or more", message)
    assert found, message
    return int(found[1])


def test_more_than_there_is_and_too_little_are_refused() -> None:
    available = available_mib()
    if available is None:
        pytest.skip("this system does not tell its free memory")
    with pytest.raises(ConfigError, match="MiB are there"):
        check_memory(available + resident_mib() + 1024)
    with pytest.raises(ConfigError, match=r"model\.memory_mib: 8 MiB asked, the program alone"):
        check_memory(8)


def test_the_figure_advised_is_taken_by_a_process_that_is_a_little_larger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for resident in range(100, 100 + 2 * MARGIN_MIB):
        monkeypatch.setattr(memory, "resident_mib", lambda held=resident: held)
        with pytest.raises(ConfigError) as refused:
            check_memory(8)
        monkeypatch.setattr(memory, "resident_mib", lambda held=resident: held + MARGIN_MIB)
        check_memory(advised_mib(str(refused.value)))


def test_what_the_program_takes_while_it_counts_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = iter([100])
    monkeypatch.setattr(memory, "resident_mib", lambda: next(held, 2000))
    method = pmi_cut(memory_mib=100 + memory.LEAST_MIB)
    method.fit(Recorder(), corpus_of(tmp_path / "t.txt", sentences()))  # type: ignore[arg-type]
    assert method.lexicon().words


def test_counting_itself_refuses_too_little(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.memory_mib: 8 MiB asked"):
        count_ngrams(corpus_of(tmp_path / "t.txt", ["abcabc"]), 2, memory_mib=8)


def test_the_smallest_plan_has_few_workers_and_fits_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(count_plan, "available_cores", lambda: 64)
    plan = CountPlan.within(0, None, 10**9)
    jobs = plan.workers + 2
    taken = jobs * (plan.job_symbols * 36 + plan.merge_records * 5 * 16)
    assert 1 <= plan.workers <= 8
    assert taken <= (memory.LEAST_MIB - count_plan.RESERVE_MIB) << 20


def test_a_run_with_the_memory_that_was_advised_succeeds(kexue_run, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(sentences(lines=2000)), encoding="utf-8")
    words = ["task=minent", "model=pmi_cut", "data=text", "data.path=t.txt", "output_dir=out"]
    refused = kexue_run(*words, "model.memory_mib=8")
    assert refused.returncode == 2
    finished = kexue_run(*words, f"model.memory_mib={advised_mib(refused.stderr)}")
    assert finished.returncode == 0, finished.stderr
