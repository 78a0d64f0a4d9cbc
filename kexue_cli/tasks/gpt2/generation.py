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

    `reason` is "end" (the end token), "stop" (a stop string), "length" or "context".
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
        tokens = chooser.choose(decoder.logits, completions)
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
            if _ends(completion, rules, stops):
                open_rows.discard(row)
        if not open_rows or step + 1 == rules.max_new_tokens:
            break
        if decoder.is_full and not rules.slides:
            for row in open_rows:
                completions[row].reason = "context"
            break
        decoder.append(tokens)
    return completions


def _ends(completion: Completion, rules: Rules, stops: Stops | None) -> bool:
    if stops is not None and stops(completion.tokens):
        completion.reason = "stop"
        return True
    if completion.tokens[-1] == rules.end and len(completion.tokens) >= rules.min_new_tokens:
        completion.reason = "end"
        return True
    return False


class _Chooser:
    """Applies the rules to the logits of all rows; remembers which tokens each row has seen."""

    def __init__(
        self,
        rules: Rules,
        prompts: Sequence[Sequence[int]],
        vocab_size: int,
        generator: torch.Generator,
    ) -> None:
        self.rules, self.prompts, self.generator = rules, prompts, generator
        self.seen: Tensor | None = None
        if rules.repetition_penalty != 1.0:
            self.seen = torch.zeros(len(prompts), vocab_size, dtype=torch.bool)
            for row, prompt in enumerate(prompts):
                self.seen[row, list(prompt)] = True

    def choose(self, logits: Tensor, completions: Sequence[Completion]) -> Tensor:
        """One token per row, (row,)."""
        logits = self._forbid(logits, completions)
        if self.rules.greedy:
            tokens = logits.argmax(-1)
        else:
            rules = self.rules
            kept = filtered(
                logits, rules.temperature, rules.top_k, rules.top_p, rules.top_p_rule, rules.min_p
            )
            tokens = draw(kept, self.generator)
        if self.seen is not None:
            self.seen[torch.arange(len(tokens)), tokens.cpu()] = True
        return tokens

    def _forbid(self, logits: Tensor, completions: Sequence[Completion]) -> Tensor:
        rules = self.rules
        if self.seen is not None:
            seen = self.seen.to(logits.device)
            logits = repetition_penalty(logits, seen, rules.repetition_penalty)
        if rules.no_repeat_ngram:
            banned = [
                repeated_ngram_mask(
                    [*prompt, *completion.tokens], rules.no_repeat_ngram, logits.shape[-1]
                )
                for prompt, completion in zip(self.prompts, completions, strict=True)
            ]
            logits = logits.masked_fill(torch.stack(banned).to(logits.device), -torch.inf)
        ids = list(rules.forbidden)
        is_early = max(len(c.tokens) for c in completions) + 1 < rules.min_new_tokens
        if rules.forbids_early_end and rules.end is not None and is_early:
            ids.append(rules.end)
        if ids:
            logits = logits.index_fill(1, torch.tensor(ids, device=logits.device), -torch.inf)
        return logits
