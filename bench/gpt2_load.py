"""Memory and time it takes to open a model's weights.

    python bench/gpt2_load.py FOLDER --precision bf16
    python bench/gpt2_load.py new_folder --make xl     # first writes zeros as a Hugging Face folder

FOLDER is whatever `checkpoint=` takes: a Hugging Face folder, the prefix of a TensorFlow
checkpoint. Printed are the weights' bytes in the format asked for and the program's own memory
(anonymous pages: not the file's, which the system may drop) before, at its highest, and after.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path

import torch

from kexue_cli.tasks.gpt2.pretrained import hugging_face_config, open_weights
from kexue_cli.tasks.gpt2.weights import empty_model, hugging_face_plan

SHAPES = {"small": (12, 12, 768), "large": (36, 20, 1280), "xl": (48, 25, 1600)}  # layers, heads
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--make", choices=SHAPES, help="write zeros of this size first")
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    options = parser.parse_args()
    if options.make:
        make(options.folder, options.make)
    weights = open_weights(options.folder)
    before = own_memory()
    highest = Highest()
    begin = time.perf_counter()
    model = weights.load(DTYPES[options.precision])
    seconds = time.perf_counter() - begin
    peak = highest.stop()
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {options.precision}: "
        f"weights {size / 1e6:,.0f} MB; own memory {before / 1e6:,.0f} MB before, at most "
        f"{peak / 1e6:,.0f}, {own_memory() / 1e6:,.0f} after; {seconds:.1f} s"
    )


def make(folder: Path, size: str) -> None:
    """A GPT-2 of zeros in Hugging Face's form."""
    from safetensors.torch import save_file

    layers, heads, width = SHAPES[size]
    config = {"model_type": "gpt2", "n_layer": layers, "n_head": heads, "n_embd": width}
    model = empty_model(hugging_face_config(config, "config.json"))
    plan = hugging_face_plan(model.arch, "")
    tensors = {}
    for name, parameter in model.named_parameters():
        shape = reversed(parameter.shape) if plan[name].transposed else parameter.shape
        (theirs,) = plan[name].names
        tensors[theirs] = torch.zeros(*shape)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


def own_memory() -> int:
    """Bytes of anonymous memory (Linux)."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in x)
    return 1024 * int(line.split()[1])


class Highest:
    """Looks at the memory every few milliseconds until it is stopped."""

    def __init__(self) -> None:
        self.bytes, self.stopped = 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self) -> None:
        """Keep the largest value seen."""
        while not self.stopped.wait(0.005):
            self.bytes = max(self.bytes, own_memory())

    def stop(self) -> int:
        """The largest value."""
        self.stopped.set()
        self.thread.join()
        return self.bytes


if __name__ == "__main__":
    main()
