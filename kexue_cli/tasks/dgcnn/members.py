"""Networks with what they know of characters and words, fresh or out of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import build
from kexue_cli.errors import UserError
from kexue_cli.run import checkpoint
from kexue_cli.run.device import Device
from kexue_cli.tasks.dgcnn.encoded_set import EncodedQuestion, encode_one
from kexue_cli.tasks.dgcnn.encoding import TextSettings
from kexue_cli.tasks.dgcnn.examples import Level
from kexue_cli.tasks.dgcnn.keras_weights import load_keras_weights
from kexue_cli.tasks.dgcnn.network import Network, rarity_of, unit_scale
from kexue_cli.tasks.dgcnn.questions import text_settings
from kexue_cli.tasks.dgcnn.records import Question
from kexue_cli.tasks.dgcnn.vocabulary import Vocabulary

NOT_OF_READER = ("weights", "word_width", "word_vectors")


@dataclass(frozen=True)
class Knowledge:
    """Characters and words of a network, and how text is prepared for it.

    Attributes:
        characters: in the order of their ids.
        words: word i has the id i + 1.
        added: words that the cutter was told of.
    """

    characters: str
    words: list[str]
    added: list[str]
    text: TextSettings

    @classmethod
    def of_state(cls, state: dict[str, Any], data: Any) -> Knowledge:
        """Of a checkpoint; `data` says how text is prepared where that does not."""
        text = text_settings(data, state["added"], state.get("text"))
        return cls(state["characters"], state["words"], state["added"], text)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "characters": self.characters,
            "words": self.words,
            "added": self.added,
            "text": self.text.as_dict(),
        }

    def encode(self, question: Question) -> EncodedQuestion:
        """A question that is in no store."""
        return encode_one(question, self.text, Vocabulary(self.characters), self.words)


@dataclass(frozen=True)
class Member:
    """A network of an ensemble with what it knows."""

    network: Network
    knowledge: Knowledge


def make_network(
    model: DictConfig,
    knowledge: Knowledge,
    vectors: NDArray[np.float32] | None,
    generator: torch.Generator,
    saved: dict[str, Any] | None = None,
) -> Network:
    """A network, fresh or with the weights of a checkpoint's state `saved`.

    Word vectors of a file, or trained beforehand, are kept as they are; others are learned.

    Raises:
        ConfigError: options that do not fit the class.
        UserError: `model.weights` does not fit.
    """
    options = OmegaConf.to_container(model, enum_to_str=True)
    assert isinstance(options, dict)
    kept = {str(k): v for k, v in options.items() if k not in NOT_OF_READER}
    width = model.word_width if vectors is None else vectors.shape[1]
    if saved is not None and "words.weight" in saved["model"]:
        width = saved["model"]["words.weight"].shape[1]
    n_characters = 2 + len(knowledge.characters)
    extra = {"rarity": rarity_of(n_characters)} if model.name == "dgcnn" else {}
    reader = build(
        OmegaConf.create(kept),
        "model",
        n_characters=n_characters,
        word_width=width,
        generator=generator,
        **extra,
    )
    if model.get("weights") and saved is None:
        load_keras_weights(reader, Path(model.weights))
    network = Network(reader, 1 + len(knowledge.words), width, generator)
    if vectors is not None:
        network.take_vectors(unit_scale(vectors))
    if saved is not None:
        load_weights(network, saved, model.name)
    if network.words is not None and model.word_vectors is not None:
        network.words.weight.requires_grad_(False)
    return network


def load_weights(network: Network, state: dict[str, Any], name: str) -> None:
    """Take the weights of a checkpoint.

    Raises:
        UserError: a tensor is missing, or of another shape.
    """
    try:
        network.load_state_dict(state["model"])
    except RuntimeError as error:
        raise UserError(f"the checkpoint's weights do not fit model={name}: {error}") from error


def read_member(place: str, device: Device, like: Member) -> Member:
    """The network of an earlier run directory, made as its config.yaml says.

    Raises:
        UserError: no such run, one without a configuration beside its checkpoint, or one whose
            reader is of another kind than that of `like`.
    """
    path = checkpoint.find(place)
    config = path.parent.parent / "config.yaml"
    if not config.is_file():
        raise UserError(f"task.ensemble: {place} has no config.yaml beside its checkpoints")
    cfg = OmegaConf.load(config)
    state = checkpoint.load(path, "dgcnn", cfg.model.name)["task"]
    knowledge = Knowledge.of_state(state, cfg.data)
    network = make_network(cfg.model, knowledge, None, torch.Generator(), state)
    member = Member(network.eval().to(device.torch_device), knowledge)
    if difference := unlike(member, like):
        raise UserError(
            f"task.ensemble: {place} {difference}, so that their scores are not of the same places"
        )
    return member


def unlike(member: Member, other: Member) -> str | None:
    """Why the mean of two networks' scores means nothing, or None."""
    kinds = [type(m.network.reader).__name__ for m in (member, other)]
    if kinds[0] != kinds[1]:
        return f"is a {kinds[0]}, the checkpoint a {kinds[1]}"
    cutters = [m.knowledge.text.cutter.key for m in (member, other)]
    if member.network.level is Level.words and cutters[0] != cutters[1]:
        return "cuts words otherwise than the checkpoint (data.segmenter, model.word_vectors)"
    return None
