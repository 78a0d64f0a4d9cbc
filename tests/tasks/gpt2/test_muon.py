"""Muon on stacked matrices takes the steps of torch's own, matrix by matrix."""

import pytest
import torch
from torch import nn

from kexue_cli.config import OptimConfig
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.muon import Muon, orthogonalised
from kexue_cli.tasks.gpt2.training import language_model_optimizers


@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_steps_equal_those_of_torch(shape):
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for _ in range(3)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    one = Muon(ours, lr=0.1, momentum=0.9, weight_decay=0.1)
    other = torch.optim.Muon(
        theirs, lr=0.1, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(4):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(shape, generator=generator)
            q.grad = p.grad.clone()
        one.step()
        other.step()
    for p, q in zip(ours, theirs, strict=True):
        # torch's iteration runs in bfloat16
        assert (p - q).norm() < 0.01 * q.norm()


def test_singular_values_come_near_one():
    matrices = torch.randn(5, 20, 50, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest():
    model = Gpt(Architecture(vocab_size=9, context=8, width=8, layers=2, heads=2, inner=16))
    muon, adamw = language_model_optimizers(model, OptimConfig(name="muon", lr=0.01))
    assert len(muon.param_groups[0]["params"]) == 2 * 4
    count = sum(len(group["params"]) for group in muon.param_groups + adamw.param_groups)
    assert count == len(list(model.parameters()))
