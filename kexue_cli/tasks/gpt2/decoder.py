"""Reading texts of unequal length into one cache and asking for the next token of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kexue_cli.tasks.gpt2.cache import KeyValueCache
from kexue_cli.tasks.gpt2.model import Gpt, causal_mask


class Decoder:
    """Texts, one per row, their cache, and the logits that follow each.

    Shorter prompts are padded on the left; padding is never looked at and positions count from each
    text's own first token. When the context is full, the newer half of it is read again and the
    text goes on from there (`slides`); what a model sees then begins in the middle of the text.
    """

    def __init__(self, model: Gpt, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        longest = max(len(prompt) for prompt in prompts)
        self.pads = torch.tensor([longest - len(p) for p in prompts], device=self.device)
        self.has_pads = bool(self.pads.any())
        padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        self.history = torch.tensor(padded, device=self.device)  # (row, time)
        self.capacity = min(model.arch.context, longest + new_tokens)
        self.cache = self._new_cache(len(prompts))
        self.logits = self._read(self.history)  # (row, vocabulary), of the next token

    @property
    def is_full(self) -> bool:
        """Whether the next token would not fit the context."""
        return self.cache.length >= self.model.arch.context

    def append(self, tokens: Tensor) -> None:
        """Add one token to every text, (row,)."""
        self.history = torch.cat([self.history, tokens[:, None]], 1)
        if self.is_full:
            self._slide()
        else:
            self.logits = self._read(tokens[:, None])

    def take_rows(self, rows: Tensor) -> None:
        """Go on with these rows, in this order, with repeats."""
        self.cache.take_rows(rows)
        self.history, self.pads = self.history[rows], self.pads[rows]
        self.logits = self.logits[rows]

    def _slide(self) -> None:
        kept = max(1, self.model.arch.context // 2)
        dropped = self.history.shape[1] - kept
        self.history = self.history[:, dropped:]
        self.pads = (self.pads - dropped).clamp(min=0)
        self.has_pads = bool(self.pads.any())
        self.cache.length = 0
        self.logits = self._read(self.history)

    def _read(self, tokens: Tensor) -> Tensor:
        """Logits after the last of `tokens` (row, time), which are put into the cache."""
        start, end = self.cache.length, self.cache.length + tokens.shape[1]
        positions = mask = None
        if self.has_pads:
            columns = torch.arange(end, device=self.device)
            positions = (columns[start:] - self.pads[:, None]).clamp(min=0)  # (row, time)
            mask = (columns >= self.pads[:, None])[:, None, None]  # (row, 1, 1, key)
            if tokens.shape[1] > 1:
                # padding looks at itself: a row without any key would be NaN and spread
                itself = torch.eye(end, dtype=torch.bool, device=self.device)[start:]
                mask = mask & causal_mask(tokens.shape[1], end, self.device) | itself
        logits: Tensor = self.model(tokens, positions, mask, self.cache, last_only=True)
        return logits[:, -1].float()

    def _new_cache(self, rows: int) -> KeyValueCache:
        dtype = self.model.blocks.get_parameter("0.norm_1.weight").dtype
        return KeyValueCache(self.model.arch, rows, self.capacity, dtype, self.device)
