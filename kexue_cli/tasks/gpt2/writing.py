"""Prompts in, completions out: what mode=generate does around `generation` and `beam`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from omegaconf import DictConfig

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.gpt2.beam import beam_search, penalised_beam_search
from kexue_cli.tasks.gpt2.generation import Completion, Rules, Stops, generate
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.tokenizers import Tokenizer

Say = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """One completion of one prompt as text; `tokens` counts the generated ones."""

    prompt: str
    completion: str
    log_probability: float
    reason: str
    tokens: int


class Writer:
    """A model, its tokenizer and the rules of `task.generation`."""

    def __init__(self, model: Gpt, tokenizer: Tokenizer, cfg: DictConfig, warn: Say) -> None:
        self.model, self.tokenizer, self.cfg, self.warn = model, tokenizer, cfg, warn
        self.rules = rules_of(cfg, tokenizer)
        self.stops = [stop.replace("\\n", "\n") for stop in cfg.stop]

    def write(
        self, prompts: Sequence[str], generator: torch.Generator, rows: int, stream: Say | None
    ) -> list[Written]:
        """Complete every prompt `samples` times, `rows` texts at once, in order.

        A single text is shown by `stream` while it grows, the prompt first; one that is searched
        for by beams is not.
        """
        if self.cfg.beams > 0:
            return [self._text(p, c) for p in prompts for c in self._search(self.encode(p))]
        jobs = [prompt for prompt in prompts for _ in range(self.cfg.samples)]
        written: list[Written] = []
        for begin in range(0, len(jobs), rows):
            here = jobs[begin : begin + rows]
            completions = self._complete(here, generator, stream if len(jobs) == 1 else None)
            written += [self._text(p, c) for p, c in zip(here, completions, strict=True)]
        return written

    def _complete(
        self, prompts: Sequence[str], generator: torch.Generator, stream: Say | None
    ) -> list[Completion]:
        encoded = [self.encode(prompt) for prompt in prompts]
        if stream is None:
            return generate(self.model, encoded, self.rules, generator, self._stops)
        stream(prompts[0])
        streamer = Streamer(self.tokenizer, stream, self.stops)
        shown = lambda row, token: streamer.add(token)  # noqa: E731
        done = generate(self.model, encoded, self.rules, generator, self._stops, shown)
        streamer.finish()
        return done

    def _search(self, prompt: list[int]) -> list[Completion]:
        beams = int(self.cfg.beams)
        if self.cfg.length_penalty is None:
            return [beam_search(self.model, prompt, beams, self.rules, self._stops)]
        found = penalised_beam_search(
            self.model, prompt, beams, self.rules, float(self.cfg.length_penalty), self._stops
        )
        return found[: self.cfg.samples]

    @property
    def _stops(self) -> Stops | None:
        return self._has_stop if self.stops else None

    def encode(self, prompt: str) -> list[int]:
        """Token ids of a prompt, with the configured prefix.

        Raises:
            UserError: nothing is left of the prompt.
        """
        ids = [int(i) for i in self.tokenizer.encode(prompt)]
        if unknown := self.tokenizer.unknown(prompt):
            self.warn(f"{unknown} pieces of the prompt are not in the vocabulary")
        if self.cfg.prefix is not None:
            ids.insert(0, _id(self.tokenizer, self.cfg.prefix, "prefix"))
        if not ids and (end := self.tokenizer.end_id()) is not None and not prompt:
            ids = [end]  # GPT-2 begins every text after an end mark
        if not ids:
            raise UserError(
                f"the prompt {prompt!r} holds no token of the vocabulary: give text to continue"
            )
        return self._shortened(ids)

    def _shortened(self, ids: list[int]) -> list[int]:
        context = self.model.arch.context
        room = context - min(self.rules.max_new_tokens, context // 2)
        if len(ids) <= context - 1 or room >= len(ids):
            return ids
        self.warn(
            f"the prompt has {len(ids)} tokens, the model's context holds {context}: "
            f"only its last {room} are kept"
        )
        return ids[-room:]

    def _has_stop(self, tokens: list[int]) -> bool:
        text = self.tokenizer.decode(tokens)
        return any(stop in text for stop in self.stops)

    def _text(self, prompt: str, completion: Completion) -> Written:
        text = self.tokenizer.decode(completion.tokens)
        if completion.reason == "stop":
            text = before_stop(text, self.stops)
        count = len(completion.tokens)
        return Written(prompt, text, completion.log_probability, completion.reason, count)


class Streamer:
    """Shows a text while it grows.

    What may still change waits: half a character (byte-level BPE), the beginning of a stop string.
    """

    def __init__(self, tokenizer: Tokenizer, write: Say, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.write, self.stops = tokenizer, write, stops
        self.tokens: list[int] = []
        self.shown = 0

    def add(self, token: int) -> None:
        """Show what the text has gained."""
        self.tokens.append(token)
        text = before_stop(self.tokenizer.decode(self.tokens), self.stops)
        if not text.endswith("\ufffd"):
            self._show(text[: len(text) - self._waiting(text)])

    def finish(self) -> None:
        """Show the rest."""
        self._show(before_stop(self.tokenizer.decode(self.tokens), self.stops))

    def _waiting(self, text: str) -> int:
        """Length of the longest end of the text that a stop string begins with."""
        lengths = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)

    def _show(self, text: str) -> None:
        if len(text) > self.shown:
            self.write(text[self.shown :])
            self.shown = len(text)


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first stop string in it, or all of it."""
    found = [text.find(stop) for stop in stops if stop in text]
    return text[: min(found)] if found else text


def rules_of(cfg: DictConfig, tokenizer: Tokenizer) -> Rules:
    """The rules of `task.generation`, its tokens looked up in the vocabulary."""
    end = tokenizer.end_id()
    if cfg.end is not None:
        end = _id(tokenizer, cfg.end, "end")
    return Rules(
        max_new_tokens=cfg.max_new_tokens,
        min_new_tokens=cfg.min_new_tokens,
        greedy=cfg.greedy,
        temperature=cfg.temperature,
        top_k=cfg.top_k,
        top_p=cfg.top_p,
        top_p_rule=cfg.top_p_rule,
        min_p=cfg.min_p,
        repetition_penalty=cfg.repetition_penalty,
        no_repeat_ngram=cfg.no_repeat_ngram,
        end=end,
        forbids_early_end=cfg.forbids_early_end,
        forbidden=tuple(_id(tokenizer, token, "forbidden") for token in cfg.forbidden),
        slides=cfg.slides,
    )


def read_prompts(prompt: str) -> list[str]:
    """The prompt itself, or with @file every line of that file that is not empty.

    Raises:
        UserError: the file does not exist, is not UTF-8, or is empty.
    """
    if not prompt.startswith("@"):
        return [prompt]
    path = Path(prompt[1:])
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise UserError(f"prompt={prompt}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"prompt={prompt}: {path} is not UTF-8 ({error})") from error
    prompts = [line for line in lines if line.strip()]
    if not prompts:
        raise UserError(f"prompt={prompt}: {path} has no lines with text")
    return prompts


def _id(tokenizer: Tokenizer, token: str, key: str) -> int:
    found = tokenizer.id_of(token)
    if found is None:
        raise ConfigError(f"task.generation.{key}", f"the vocabulary has no token {token!r}")
    return found
