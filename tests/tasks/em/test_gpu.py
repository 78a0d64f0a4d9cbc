"""device=cuda: nothing meets a tensor of the CPU, and the results are the CPU's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kexue_cli.tasks.em.discrete import BernoulliMixture
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.fitting import Settings, fit_mixture
from kexue_cli.tasks.em.kmeans import lloyd
from kexue_cli.tasks.em.kmeans_limit import annealed
from kexue_cli.tasks.em.rows import Rows
from tests.tasks.em.fake_gpu import FakeGpu
from tests.tasks.em.helpers import family_for, iris

SEEDS = [0, 1, 2]


def test_the_pretended_gpu_finds_mixed_devices_and_reading_without_a_copy() -> None:
    with FakeGpu():
        there = torch.as_tensor(np.ones(3), device="cuda")
        assert (2 * there).cpu().numpy().tolist() == [2.0, 2.0, 2.0]
        assert there.device.type == "cuda"
        with pytest.raises(RuntimeError, match="CPU meets"):
            there + torch.ones(3)
        with pytest.raises(TypeError, match="host memory"):
            (2 * there).numpy()


@pytest.mark.parametrize("model", ["VVV", "EEE", "VVI", "VII"])
@pytest.mark.parametrize("algorithm", ["em", "hard", "stochastic"])
def test_a_mixture_on_the_gpu_ends_where_the_cpu_ends(model: str, algorithm: str) -> None:
    values, labels = iris()
    family, rows = family_for(values, model, 3, prior=1e-6, weights=np.linspace(1, 2, 150))
    rows.labels = np.where(np.arange(150) % 5 == 0, labels, -1)
    settings = Settings(algorithm=algorithm, max_iter=10, scale=values.std(axis=0))
    here = fit_mixture(family, rows, Engine(), settings, SEEDS)
    before = FakeGpu.used
    with FakeGpu():
        there = fit_mixture(family, rows, Engine("cuda"), settings, SEEDS)
    assert FakeGpu.used > before
    assert there.log_likelihood == pytest.approx(here.log_likelihood, abs=1e-7)


def test_float32_and_incremental_steps_and_bits_run_on_the_gpu() -> None:
    bits = (np.random.default_rng(0).random((200, 12)) > 0.5).astype(np.uint8)
    family = BernoulliMixture(3, 12, 0.05, 0.2)
    rows = Rows(bits, np.zeros(12))
    settings = Settings(start="points", batch_rows=64, max_iter=30)
    here = fit_mixture(family, rows, Engine(dtype="float32"), settings, SEEDS)
    before = FakeGpu.used
    with FakeGpu():
        there = fit_mixture(family, rows, Engine("cuda", dtype="float32"), settings, SEEDS)
    assert FakeGpu.used > before
    assert there.log_likelihood == pytest.approx(here.log_likelihood, abs=1e-3)


def test_kmeans_and_its_limit_on_the_gpu_are_the_cpu_s() -> None:
    values, _ = iris()
    rows = Rows(values, values.mean(axis=0), np.linspace(1, 2, 150))
    centres = rows.centred()[[0, 60, 120]]
    here = lloyd(rows, centres), annealed(rows, 0.01 * centres, Engine())
    before = FakeGpu.used
    with FakeGpu():
        engine = replace(Engine(), device="cuda")
        there = lloyd(rows, centres, engine=engine), annealed(rows, 0.01 * centres, engine)
    assert FakeGpu.used > before
    assert np.array_equal(there[0].labels, here[0].labels)
    assert there[1].inertia[-1] == pytest.approx(here[1].inertia[-1], rel=1e-12)
