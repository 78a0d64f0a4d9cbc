"""Generation speed of a GPT-2 of 124M random weights: us and transformers side by side.

    python bench/gpt2_generate.py [--threads 2] [--batches 1,16] [--new-tokens 48]

Needs transformers (pip install transformers). Prints tokens per second, the ratio to transformers
in float32, and the share of the memory bandwidth that reading all weights once per step takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

PROMPT_TOKENS = 16
MEASURED_MATRIX = 200_000_000  # floats read to measure the bandwidth


def main() -> None:
    options = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    import torch

    torch.set_num_threads(options.threads)
    bandwidth = read_bandwidth()
    print(f"{options.threads} threads, memory delivers {bandwidth / 1e9:.1f} GB/s")
    for rows in map(int, options.batches.split(",")):
        compare(rows, options.new_tokens, options.repeats, bandwidth)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def read_bandwidth() -> float:
    """Bytes per second of summing an array far larger than the caches."""
    import torch

    values = torch.ones(MEASURED_MATRIX)
    return values.numel() * 4 / statistics.median(timed(lambda: values.sum()) for _ in range(5))


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(rows: int, new_tokens: int, repeats: int, bandwidth: float) -> None:
    """One batch size: every contestant in turn, `repeats` times, medians."""
    import torch
    import transformers

    from kexue_cli.tasks.gpt2.decoding_layers import for_decoding
    from kexue_cli.tasks.gpt2.generation import Rules, generate
    from kexue_cli.tasks.gpt2.pretrained import hugging_face_config
    from kexue_cli.tasks.gpt2.weights import empty_model, fill, hugging_face_plan

    torch.manual_seed(0)
    peer = transformers.GPT2LMHeadModel(transformers.GPT2Config()).eval()
    tensors = peer.state_dict()
    arch = hugging_face_config(peer.config.to_dict(), "GPT2Config")
    prompts = torch.randint(arch.vocab_size, (rows, PROMPT_TOKENS))
    rules = Rules(max_new_tokens=new_tokens, greedy=True)
    peer_arguments = {
        "max_new_tokens": new_tokens,
        "min_new_tokens": new_tokens,
        "do_sample": False,
        "pad_token_id": 0,
        "attention_mask": torch.ones_like(prompts),
    }

    def ours(weights: str) -> Callable[[], object]:
        dtype = torch.float32 if weights == "float32" else torch.bfloat16
        plan = hugging_face_plan(arch, "transformer.")
        model = fill(empty_model(arch), plan, tensors.__getitem__, tensors, "GPT-2", dtype)
        model = for_decoding(model, rows, weights)
        return lambda: generate(model, prompts.tolist(), rules, torch.Generator())

    contestants: dict[str, Callable[[], object]] = {
        "transformers float32": lambda: peer.generate(prompts, **peer_arguments),
        "ours float32": ours("float32"),
        "ours bfloat16": ours("bfloat16"),
        "ours int8": ours("int8"),
    }
    for work in contestants.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, work in contestants.items():
            seconds[name].append(timed(work))
    base = statistics.median(seconds["transformers float32"])
    weight_bytes = {"float32": 4, "bfloat16": 2, "int8": 1}
    matrices = sum(t.numel() for name, t in tensors.items() if t.ndim == 2 and "wpe" not in name)
    matrices -= tensors["lm_head.weight"].numel()  # the same table twice
    for name, measured in seconds.items():
        median = statistics.median(measured)
        steps = new_tokens / median
        share = steps * matrices * weight_bytes[name.split()[-1]] / bandwidth
        print(
            f"batch {rows:2d}  {name:21s} {rows * steps:8.1f} tokens/s  "
            f"{base / median:5.2f} x transformers  {share:4.0%} of the bandwidth"
        )


if __name__ == "__main__":
    main()
