"""Writing on: greedy or by sampling, many texts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kexue_cli.tasks.gpt2.decoder import Decoder
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.sampling import draw, filtered, repeated_ngram_mask, repetition_penalty


@dataclass(frozen=True)
class Rules:
    """How the next token is chosen and when a text ends.

    Attributes:
        max_new_tokens: hard limit of generated tokens.
        min_new_tokens: the text does not end before; a special `end` is forbidden until then
            (`forbids_early_end`), an ordinary one like 。 may come and the text goes on.
        greedy: take the likeliest token; else draw after the filters of `sampling.filtered`.
        end: id of the token that ends a text, kept as its last token.
        forbidden: ids that never come.
        slides: go on beyond the model's context with the newer half of it; else stop there.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    greedy: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    top_p_rule: str = "inclusive"
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    end: int | None = None
    forbids_early_end: bool = False
    forbidden: tuple[int, ...] = ()
    slides: bool = True


@dataclass
class Completion:
    """Generated tokens, the sum of their log-probabilities under the model, and why they end.

    `reason` is "end" (the end token), "stop" (a stop string), "length", "context", or "rules": they
    leave no token that may come.
    """

    tokens: list[int] = field(default_factory=list)
    log_probability: float = 0.0
    reason: str = "length"


Stops = Callable[[list[int]], bool]
OnToken = Callable[[int, int], None]


@torch.inference_mode()
def generate(
    model: Gpt,
    prompts: Sequence[Sequence[int]],
    rules: Rules,
    generator: torch.Generator,
    stops: Stops | None = None,
    on_token: OnToken | None = None,
) -> list[Completion]:
    """Continue every prompt, all of them in one batch.

    Args:
        stops: whether the tokens generated so far hold a stop string.
        on_token: called as on_token(row, token) for every new token, for streaming.
    """
    decoder = Decoder(model, prompts, rules.max_new_tokens)
    completions = [Completion() for _ in prompts]
    open_rows = set(range(len(prompts)))
    chooser = _Chooser(rules, prompts, model.arch.vocab_size, generator)
    for step in range(rules.max_new_tokens):
        tokens, stuck = chooser.choose(decoder.logits, completions)
        for row in open_rows.intersection(stuck):
            completions[row].reason = "rules"
            open_rows.discard(row)
        log_probabilities = decoder.logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        chosen = zip(tokens.tolist(), log_probabilities.tolist(), strict=True)
        for row, (token, log_probability) in enumerate(chosen):
            if row not in open_rows:
                continue
            completion = completions[row]
            completion.tokens.append(token)
            completion.log_probability += log_probability
            if on_token is not None:
                on_token(row, token)
            if reason := reason_to_end(completion.tokens, rules, stops):
                completion.reason = reason
                open_rows.discard(row)
        if not open_rows or step + 1 == rules.max_new_tokens:
            break
        if decoder.is_full and not rules.slides:
            for row in open_rows:
                completions[row].reason = "context"
            break
        decoder.append(tokens)
    return completions


def reason_to_end(tokens: Sequence[int], rules: Rules, stops: Stops | None) -> str | None:
    """Why a text of these generated tokens ends with the last of them; None if it goes on."""
    if stops is not None and stops(list(tokens)):
        return "stop"
    if tokens[-1] == rules.end and len(tokens) >= rules.min_new_tokens:
        return "end"
    return None


class Restraints:
    """What the rules forbid and punish, row by row; remembers which tokens each row has seen."""

    def __init__(self, rules: Rules, prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
        self.rules, self.prompts = rules, list(prompts)
        self.seen: Tensor | None = None  # (row, vocabulary)
        if rules.repetition_penalty != 1.0:
            self.seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                self.seen[row, list(prompt)] = True

    def applied(self, scores: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """Logits or log-probabilities (row, vocabulary), -inf at what may not follow `texts`.

        `texts` are the tokens generated so far, one list per row.
        """
        rules = self.rules
        if self.seen is not None:
            seen = self.seen.to(scores.device)
            scores = repetition_penalty(scores, seen, rules.repetition_penalty)
        if rules.no_repeat_ngram:
            banned = [
                repeated_ngram_mask([*prompt, *text], rules.no_repeat_ngram, scores.shape[-1])
                for prompt, text in zip(self.prompts, texts, strict=True)
            ]
            scores = scores.masked_fill(torch.stack(banned).to(scores.device), -torch.inf)
        ids = list(rules.forbidden)
        is_early = max(map(len, texts)) + 1 < rules.min_new_tokens
        if rules.forbids_early_end and rules.end is not None and is_early:
            ids.append(rules.end)
        if ids:
            scores = scores.index_fill(1, torch.tensor(ids, device=scores.device), -torch.inf)
        return scores

    def add(self, tokens: Tensor) -> None:
        """Note the next token of every row, (row,)."""
        if self.seen is not None:
            self.seen[torch.arange(len(tokens)), tokens.cpu()] = True

    def take_rows(self, rows: Tensor) -> None:
        """Go on with these rows, in this order, with repeats."""
        self.prompts = [self.prompts[row] for row in rows.tolist()]
        if self.seen is not None:
            self.seen = self.seen[rows.cpu()]


class _Chooser:
    """Takes the next token of every row, by the rules."""

    def __init__(
        self,
        rules: Rules,
        prompts: Sequence[Sequence[int]],
        vocab_size: int,
        generator: torch.Generator,
    ) -> None:
        self.rules, self.generator = rules, generator
        self.restraints = Restraints(rules, prompts, vocab_size)

    def choose(self, logits: Tensor, completions: Sequence[Completion]) -> tuple[Tensor, list[int]]:
        """One token per row, (row,), and the rows in which none may come: theirs mean nothing."""
        logits = self.restraints.applied(logits, [c.tokens for c in completions])
        stuck = logits.isneginf().all(-1)
        logits = logits.masked_fill(stuck[:, None], 0.0)  # nothing can be drawn from -inf alone
        if self.rules.greedy:
            tokens = logits.argmax(-1)
        else:
            rules = self.rules
            kept = filtered(
                logits, rules.temperature, rules.top_k, rules.top_p, rules.top_p_rule, rules.min_p
            )
            tokens = draw(kept, self.generator)
        self.restraints.add(tokens)
        return tokens, stuck.nonzero()[:, 0].tolist()
