"""A small classifier trained here, to judge what auto-encoders generate: no outside weights.

Its Frechet distance is of its own features and is not comparable with published FID values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = 128


@dataclass
class Classifier:
    """A trained net (pixels -> 128 features -> classes) and its accuracy on held-out images."""

    body: nn.Module
    head: nn.Module
    accuracy: float

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Class of every image (n, pixels), (n,)."""
        scores: Tensor = self.head(self.body(images))
        return scores.argmax(-1)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """(n, 128), float64."""
        found: Tensor = self.body(images)
        return found.double()


def train_classifier(
    images: Tensor,
    labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    generator: torch.Generator,
    steps: int = 2000,
) -> Classifier:
    """Two dense layers by Adam on minibatches of 128; images (n, pixels) in [0, 1], labels (n,)."""
    classes = int(labels.max()) + 1
    body = nn.Sequential(
        nn.Linear(images.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()
    )
    body, head = body.to(images.device), nn.Linear(HIDDEN, classes).to(images.device)
    for layer in (module for module in [*body, head] if isinstance(module, nn.Linear)):
        initial = torch.empty(layer.weight.shape)
        layer.weight.data.copy_(nn.init.xavier_uniform_(initial, generator=generator))
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 1e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (128,), generator=generator).to(images.device)
        loss = functional.cross_entropy(head(body(images[rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = Classifier(body, head, 0.0)
    found.accuracy = float((found.predict(test) == test_labels).double().mean())
    return found


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of features (n, d), float64."""
    difference = first.mean(0) - second.mean(0)
    one, two = torch.cov(first.T), torch.cov(second.T)
    values, vectors = torch.linalg.eigh(one)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    mixed = torch.linalg.eigvalsh(root @ two @ root).clamp_min(0).sqrt().sum()
    return float(difference.square().sum() + one.trace() + two.trace() - 2 * mixed)
