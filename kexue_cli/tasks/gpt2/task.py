"""task=gpt2: GPT2_ML, GPT-2, small models; generate, evaluate, train (kexue.fm/archives/7292)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch

from kexue_cli.config import Mode, Precision
from kexue_cli.errors import ConfigError, UserError
from kexue_cli.paths import cache_dir
from kexue_cli.run.context import Context
from kexue_cli.submission import Submission
from kexue_cli.tasks.base import Metric, Predictions, Task
from kexue_cli.tasks.gpt2 import memory, packed, plots, start, tokenizers
from kexue_cli.tasks.gpt2.decoding_layers import for_decoding
from kexue_cli.tasks.gpt2.engine import choose_engine
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.ngram import ngram_losses
from kexue_cli.tasks.gpt2.packed import Batch, Tokens, training_batches
from kexue_cli.tasks.gpt2.sources import text_source
from kexue_cli.tasks.gpt2.start import Start
from kexue_cli.tasks.gpt2.texts import TextSource
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer, Tokenizer
from kexue_cli.tasks.gpt2.training import batch_loss, language_model_optimizers, text_metrics
from kexue_cli.tasks.gpt2.writing import Writer, Written, read_prompts
from kexue_cli.train.loop import fit
from kexue_cli.train.sharding import copy_whole_, shard, whole
from kexue_cli.train.stage import Stage

SHOWN_CHARACTERS = 32  # of validation text, the prompt of sample texts


class Gpt2Task(Task):
    """A language model over one tokenizer; judged by nats per token of the validation text."""

    modes: ClassVar[tuple[str, ...]] = ("train", "evaluate", "predict", "generate")
    primary = Metric("loss", "min", "valid")

    model: Gpt
    tokenizer: Tokenizer

    def prepare(self, ctx: Context) -> None:
        """Model and tokenizer from where they begin; the text, packed; the n-gram baselines."""
        self.tokens: dict[str, Tokens] = {}
        self.baselines: list[float] = []
        known = self._known_start(ctx)
        if self.cfg.mode in (Mode.train, Mode.evaluate):
            source = text_source(self.cfg.data)
            self.tokenizer = known.tokenizer if known else self._learn_tokenizer(source)
            self._load_text(ctx, source)
        beginning = known or start.fresh(self.cfg, self.tokenizer, ctx.seeds.torch("init"))
        self.tokenizer = beginning.tokenizer
        self._check_memory(ctx, beginning)
        dtype = self._load_dtype(ctx)
        self.model = beginning.load(dtype).to(ctx.device.torch_device)
        if ctx.device.type != "cpu":
            self.model.to(dtype)  # biases and norms, too
        self.model.checkpointing = bool(self.cfg.task.checkpointing)
        self._say_model(ctx, beginning)
        if self.cfg.mode in (Mode.train, Mode.evaluate):
            ctx.console.say(choose_engine(self.model, self.cfg, ctx.device))

    def load(self, ctx: Context, place: str) -> None:
        """`prepare` already took the weights: their tokenizer is needed to read the text."""

    def fit(self, ctx: Context) -> None:
        """Train; the best weights on the validation text stay."""
        task = self.cfg.task
        stage = Stage(
            name="train",
            steps=min(task.steps, self.cfg.limit.steps or task.steps),
            loss=batch_loss,
            batches=lambda first: self._batches(ctx, first),
            evaluate_every=task.evaluate_every,
            optim=self.cfg.optim,
            patience=task.patience,
            unit="tokens",
            make_optimizers=language_model_optimizers,
        )
        if task.shard:
            self._shard(ctx)
        fit(ctx, self, self.model, [stage], lambda: self._validate(ctx))
        if task.shard:
            self.model = start.from_state(self.state_dict(), "training").load(torch.float32)
            self.model.to(ctx.device.torch_device)

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Loss over the whole split, by windows side by side and, with task.stride, overlapping."""
        self.model.eval()
        device, time = ctx.device.torch_device, self._time
        with ctx.device.autocast():
            metrics = text_metrics(self.model, self.tokens[split], time, device)
            if self.cfg.task.stride is not None:
                sliding = text_metrics(
                    self.model, self.tokens[split], time, device, stride=self.cfg.task.stride
                )
                metrics |= {f"sliding_{name}": value for name, value in sliding.items()}
        if self.tokens[split].unknown:
            metrics["unknown_share"] = self.tokens[split].unknown_share
        for order, loss in enumerate(self.baselines, start=1):
            metrics[f"{order}gram_loss"] = loss
        return metrics

    def predict(self, ctx: Context) -> Predictions:
        """Completions of the prompt; without one, of the beginning of the validation text."""
        prompts = [self._sample_prompt] if self.cfg.prompt is None else self._prompts()
        writer = Writer(self.model.eval(), self.tokenizer, self._rules, ctx.console.warn)
        generator = ctx.seeds.torch("sampling", ctx.device.torch_device)
        return as_predictions(writer.write(prompts, generator, self.cfg.task.batch, None))

    def submission(self, predictions: Predictions) -> Submission:
        """Columns id, prompt, completion, log_probability."""
        columns = predictions.columns
        return Submission(
            {
                "id": list(predictions.ids),
                "prompt": list(columns["prompt"]),
                "completion": list(predictions.prediction),
                "log_probability": list(columns["log_probability"]),
            }
        )

    def generate(self, ctx: Context) -> None:
        """Complete the prompt, the prompts of a file, or ask for prompts until none comes."""
        rows = 1 if self.cfg.prompt == "-" else self._rows(len(self._prompts()))
        if ctx.device.type == "cpu" or self._weights == "int8":
            for_decoding(self.model, rows, self._weights)
        writer = Writer(self.model, self.tokenizer, self._rules, ctx.console.warn)
        generator = ctx.seeds.torch("sampling", ctx.device.torch_device)
        streams = self._rules.stream and not self._rules.beams and ctx.ranks.is_main
        stream = self._stream if streams else None
        written: list[Written] = []
        for prompts in self._asked() if self.cfg.prompt == "-" else [self._prompts()]:
            new = writer.write(prompts, generator, rows, stream)
            self._show(ctx, new, streamed=stream is not None)
            written += new
        predictions = as_predictions(written)
        ctx.directory.write_table("predictions.csv", predictions.as_columns())
        ctx.directory.write_text("submission.csv", self.submission(predictions).to_text())
        ctx.console.say(f"  {ctx.directory.path / 'submission.csv'}")

    def plots(self, ctx: Context) -> None:
        """Loss curves beside the n-gram baselines, and attention to one prompt."""
        if self.cfg.mode is Mode.train:
            plots.loss_curves(ctx.directory, self.baselines)
        prompt = self._sample_prompt if self.cfg.prompt is None else self._prompts()[0]
        ids = self.tokenizer.encode(prompt)[: min(SHOWN_CHARACTERS, self.model.arch.context)]
        if len(ids) > 1:
            labels = [self.tokenizer.decode([int(i)]) for i in ids]
            plots.attention(ctx.directory, self.model.eval(), ids, labels)

    def state_dict(self) -> dict[str, Any]:
        """Architecture, tokenizer and weights."""
        return {
            "architecture": asdict(self.model.arch),
            "tokenizer": self.tokenizer.state(),
            "model": {name: whole(p.detach()) for name, p in self.model.named_parameters()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the weights of a state; UserError where they do not fit."""
        own = dict(self.model.named_parameters())
        for name, value in state["model"].items():
            if name not in own or own[name].shape != value.shape:
                found = tuple(own[name].shape) if name in own else "missing"
                raise UserError(f"{name} is {tuple(value.shape)} in the checkpoint, {found} here")
            copy_whole_(own[name].data, value)

    def _shard(self, ctx: Context) -> None:
        if ctx.ranks.size == 1:
            raise ConfigError(
                "task.shard", "needs several processes: torchrun --nproc-per-node=N -m kexue_cli …"
            )
        shard(self.model, self.model.blocks, ctx.ranks, ctx.device.type)

    def _known_start(self, ctx: Context) -> Start | None:
        """Where weights come from, if not from random numbers."""
        if ctx.resume is not None:
            return start.from_state(ctx.resume["task"], str(ctx.directory.path))
        return start.from_place(self.cfg) if self.cfg.checkpoint is not None else None

    def _learn_tokenizer(self, source: TextSource) -> Tokenizer:
        data = self.cfg.data
        if data.tokenizer == "char":
            return CharTokenizer.of_texts(source.texts(), end=source.document_count() > 1)
        return tokenizers.train(data.tokenizer, source.texts(), data.vocab_size)

    def _load_text(self, ctx: Context, source: TextSource) -> None:
        if ctx.ranks.is_main:
            packed.pack(source, self.tokenizer, cache_dir())
        ctx.ranks.barrier()
        self.tokens, checksum = packed.load(packed.pack(source, self.tokenizer, cache_dir()))
        ctx.fingerprint(checksum)
        rows = self.cfg.limit.rows
        if rows is not None:
            kept = rows * ((self.cfg.task.context or 64) + 2)
            self.tokens = {name: part.first(kept) for name, part in self.tokens.items()}
        for name, part in self.tokens.items():
            ctx.console.say(
                f"{name}: {len(part):,} tokens, {part.characters:,} characters, "
                f"{len(part.starts):,} documents"
            )
        packed.check_splits(self.tokens, source, trains=self.cfg.mode is Mode.train)
        self._warn_of_unknown(ctx)
        task = self.cfg.task
        if task.ngram_orders and self.cfg.mode is Mode.train:
            counted = np.asarray(self.tokens["train"].ids[: task.ngram_tokens], np.int64)
            valid = np.asarray(self.tokens["valid"].ids[: task.ngram_tokens], np.int64)
            vocab_size = self.tokenizer.vocab_size
            self.baselines = ngram_losses(counted, valid, vocab_size, task.ngram_orders)
            shown = "  ".join(f"{n} {x:.3f}" for n, x in enumerate(self.baselines, start=1))
            ctx.console.say(f"n-grams by counting, nats per token of order {shown}")

    def _warn_of_unknown(self, ctx: Context) -> None:
        for name in packed.SPLITS if self.cfg.mode is Mode.train else ("valid",):
            part = self.tokens[name]
            share = f"({part.unknown_share:.2%})"
            if part.examples:
                ctx.console.warn(
                    f"{name}: {part.unknown:,} characters of the text {share} are not in the "
                    f"vocabulary, such as {part.examples!r}. They are left out: the model neither "
                    "reads nor scores them, and the numbers speak of the rest alone"
                )
            elif part.unknown:
                ctx.console.warn(
                    f"{name}: {part.unknown:,} tokens {share} are [UNK], words that the vocabulary "
                    "cannot spell: the model scores the mark, not the word"
                )

    def _check_memory(self, ctx: Context, beginning: Start) -> None:
        available = memory.available_bytes(ctx.device.torch_device)
        task = self.cfg.task
        if self.cfg.mode is Mode.train:
            time = min(task.context or beginning.arch.context, beginning.arch.context)
            memory.check_training(
                beginning.arch, self.cfg.optim.name, task.batch, time, task.checkpointing, available
            )
        else:
            tokens = beginning.arch.context
            weights = self._weights if self.cfg.mode is Mode.generate else "float32"
            rows = self._rows(1)
            memory.check_generation(beginning.arch, weights, rows, tokens, available)

    def _say_model(self, ctx: Context, beginning: Start) -> None:
        count, arch = self.model.parameter_count(), self.model.arch
        ctx.console.say(
            f"{arch.layout} layout, {arch.layers} layers of width {arch.width}, context "
            f"{arch.context}, vocabulary {arch.vocab_size:,}: {count:,} weights "
            f"from {beginning.origin}"
        )

    @property
    def _rules(self) -> Any:
        return self.cfg.task.generation

    @property
    def _weights(self) -> str:
        """Format of the matrices for generation."""
        if self._rules.weights != "auto":
            return str(self._rules.weights)
        return "bfloat16" if self.cfg.precision is Precision.bf16 else "float32"

    def _load_dtype(self, ctx: Context) -> torch.dtype:
        if self.cfg.mode is not Mode.generate:
            return torch.float32
        if ctx.device.type != "cpu":
            return torch.float32 if self._weights == "int8" else ctx.device.dtype
        return torch.float32 if self._weights == "float32" else torch.bfloat16

    @property
    def _time(self) -> int:
        """Tokens of a window."""
        context = self.model.arch.context
        return min(self.cfg.task.context or context, context)

    def _batches(self, ctx: Context, first: int) -> Iterator[Batch]:
        ranks, seed = ctx.ranks, ctx.seeds.integer("order")
        rows, time = self.cfg.task.batch, self._time
        made = training_batches(
            self.tokens["train"], time, rows, seed, first, ranks.rank, ranks.size
        )
        return (batch.to(ctx.device.torch_device) for batch in made)

    def _validate(self, ctx: Context) -> dict[str, float]:
        """Loss on some windows of the validation text, and a sample of what the model writes."""
        device, windows = ctx.device.torch_device, self.cfg.task.valid_windows
        with ctx.device.autocast():
            metrics = text_metrics(self.model, self.tokens["valid"], self._time, device, windows)
        if self.cfg.task.sample_tokens and (ctx.ranks.is_main or self.cfg.task.shard):
            ctx.console.say(f"sample: {self._sample(ctx)}")
        return metrics

    def _sample(self, ctx: Context) -> str:
        rules = self._rules.copy()
        rules.update(max_new_tokens=self.cfg.task.sample_tokens, samples=1, min_new_tokens=0)
        writer = Writer(self.model, self.tokenizer, rules, ctx.console.warn)
        generator = ctx.seeds.torch("samples during training", ctx.device.torch_device)
        (written,) = writer.write([self._sample_prompt], generator, 1, None)
        return written.prompt + written.completion

    @property
    def _sample_prompt(self) -> str:
        if self.cfg.prompt is not None and self.cfg.prompt != "-":
            return self._prompts()[0]
        if "valid" not in self.tokens:
            raise UserError('mode=predict needs prompt="…" or prompt=@file')
        shown = max(1, min(SHOWN_CHARACTERS, self.model.arch.context // 2))
        ids = self.tokens["valid"].ids[:shown]
        return self.tokenizer.decode([int(i) for i in ids])

    def _prompts(self) -> list[str]:
        return read_prompts(str(self.cfg.prompt))

    def _rows(self, prompts: int) -> int:
        """Texts generated at once."""
        if self.cfg.prompt is None or self.cfg.prompt == "-":
            return max(1, self._rules.samples)
        wanted = max(prompts, len(self._prompts())) * self._rules.samples
        return max(1, min(self.cfg.task.batch, wanted), int(self._rules.beams))

    def _asked(self) -> Iterator[list[str]]:
        """Prompts from the terminal, one a line, until the end of input or an empty line."""
        while True:
            print("prompt> ", end="", file=sys.stderr, flush=True)
            line = sys.stdin.readline().rstrip("\n")
            if not line:
                return
            yield [line]

    def _stream(self, text: str) -> None:
        print(text, end="", flush=True)

    def _show(self, ctx: Context, written: list[Written], streamed: bool) -> None:
        if streamed and len(written) == 1:
            print(flush=True)
            return
        for number, one in enumerate(written, start=1):
            ctx.console.say(f"{number}: {one.prompt}{one.completion}")


def as_predictions(written: list[Written]) -> Predictions:
    """Completions as rows: id, completion, prompt, log_probability, reason, tokens."""
    return Predictions(
        ids=list(range(1, len(written) + 1)),
        prediction=[one.completion for one in written],
        columns={
            "prompt": [one.prompt for one in written],
            "log_probability": [one.log_probability for one in written],
            "reason": [one.reason for one in written],
            "tokens": [one.tokens for one in written],
        },
    )
