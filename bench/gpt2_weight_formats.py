"""What bfloat16 and int8 weights cost in perplexity, on the validation text of a trained run.

    python bench/gpt2_weight_formats.py <run directory of task=gpt2> [--tokens 4000]

Scores the text token by token through the cache, with the kernels that generate one text.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from omegaconf import OmegaConf

from kexue_cli.paths import cache_dir
from kexue_cli.run import checkpoint


def main() -> None:
    from kexue_cli.tasks.gpt2 import packed, start
    from kexue_cli.tasks.gpt2.decoding_layers import WEIGHT_FORMATS, for_decoding
    from kexue_cli.tasks.gpt2.sources import text_source

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--tokens", type=int, default=4000)
    options = parser.parse_args()
    found = checkpoint.find(options.run)
    begin = start.from_state(checkpoint.load(found, "gpt2")["task"], str(found))
    source = text_source(OmegaConf.load(Path(options.run) / "config.yaml").data)
    splits, _ = packed.load(packed.pack(source, begin.tokenizer, cache_dir()))
    import torch

    for weights in WEIGHT_FORMATS:
        model = for_decoding(begin.load(torch.float32), 1, weights)
        loss = token_by_token_loss(model, splits["valid"].ids[: options.tokens].tolist())
        print(f"{weights:9s} {loss:.4f} nats per token, perplexity {math.exp(loss):.4f}")


def token_by_token_loss(model: object, ids: list[int]) -> float:
    """Mean nats of every token after the first of its window of one context."""
    import torch

    from kexue_cli.tasks.gpt2.decoder import Decoder
    from kexue_cli.tasks.gpt2.model import Gpt

    assert isinstance(model, Gpt)
    total, count = 0.0, 0
    with torch.inference_mode():
        for begin in range(0, len(ids) - 1, model.arch.context):
            window = ids[begin : begin + model.arch.context]
            decoder = Decoder(model, [window[:1]], len(window))
            for token in window[1:]:
                total -= float(decoder.logits.log_softmax(-1)[0, token])
                count += 1
                decoder.append(torch.tensor([token]))
    return total / count


if __name__ == "__main__":
    main()
