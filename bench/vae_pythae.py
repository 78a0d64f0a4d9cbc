"""Our IWAE step and test NLL against pythae's, same network, same data, same machine, same run.

    python bench/vae_pythae.py --peer /path/to/venv/bin/python [--threads 1]

The peer's Python needs pythae 0.1.2 (pip install pythae;
https://github.com/clementchadebec/benchmark_VAE)
and the same torch version as ours. Each side runs in its own process, in turns; medians of the
turns. With one thread it is CPU time, which other work on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HIDDEN, LATENT, PIXELS, BATCH = 200, 50, 784, 20
DECODER_MULTIPLIES = LATENT * HIDDEN + HIDDEN * HIDDEN + HIDDEN * PIXELS
ENCODER_MULTIPLIES = PIXELS * HIDDEN + HIDDEN * HIDDEN + 2 * HIDDEN * LATENT


def median_seconds(call: Callable[[], object], seconds: float, threads: int) -> float:
    """Median duration of `call`, repeated for about that long."""
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(3):
        call()
    times: list[float] = []
    end = clock() + seconds
    while len(times) < 5 or clock() < end:
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times)


def ours(threads: int, k: int, precision: str, nll: bool, samples: int, seconds: float) -> float:
    """Seconds of one training step, or of the NLL of one image."""
    import numpy as np
    import torch

    from kexue_cli.native.memory import keep_freed_memory
    from kexue_cli.tasks.vae.builders import Images, iwae_mlp
    from kexue_cli.tasks.vae.evaluation import likelihood_numbers
    from kexue_cli.tasks.vae.objectives import iwae_bound
    from kexue_cli.train.native_adam import NativeAdam

    torch.set_num_threads(threads)
    keep_freed_memory()  # as a run does
    torch.set_flush_denormal(True)
    images = Images((28, 28), 256, 0, np.full(PIXELS, 0.13))
    model = iwae_mlp(
        images, [torch.Generator().manual_seed(0)], 1, LATENT, [HIDDEN] * 2, 0, 0, False
    ).use_native()
    x = (torch.rand(1, BATCH, PIXELS) > 0.8).float()
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
    if nll:
        model.eval()
        with autocast:
            found = median_seconds(
                lambda: likelihood_numbers(model, x[0], None, samples, [], rows=5000),
                seconds,
                threads,
            )
        return found / BATCH
    optimizer = NativeAdam(model.parameters(), 1e-3, eps=1e-4)

    def step() -> None:
        with autocast:
            loss = -iwae_bound(model(x, None, k)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return median_seconds(step, seconds, threads)


PEER = """
import json, sys, time, torch, torch.nn as nn
sys.path.insert(0, sys.argv[1])
from vae_pythae import median_seconds, HIDDEN, LATENT, PIXELS, BATCH
from pythae.models import IWAE, IWAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
threads, k, samples = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[5])
nll, seconds = sys.argv[4] == "nll", float(sys.argv[6])
torch.set_num_threads(threads)
class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(PIXELS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN),
        nn.Tanh())
        self.mean, self.log_var = nn.Linear(HIDDEN, LATENT), nn.Linear(HIDDEN, LATENT)
    def forward(self, x):
        h = self.body(x.reshape(-1, PIXELS))
        return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))
class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN),
        nn.Tanh(),
                                  nn.Linear(HIDDEN, PIXELS), nn.Sigmoid())
    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z).reshape(-1, 1, 28, 28))
config = IWAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce",
                    number_samples=k)
model = IWAE(config, Encoder(), Decoder())
x = (torch.rand(BATCH, 1, 28, 28) > 0.8).float()
if nll:
    model.eval()
    with torch.no_grad():
        few = x[:4]
        print(json.dumps(median_seconds(lambda: model.get_nll(few, n_samples=samples,
        batch_size=100), seconds, threads) / 4))
else:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-4)
    def step():
        optimizer.zero_grad()
        model({"data": x}).loss.backward()
        optimizer.step()
    print(json.dumps(median_seconds(step, seconds, threads)))
"""


def in_process(command: list[str]) -> float:
    """The last line that a process prints, as a number."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def compare(given: argparse.Namespace, k: int, nll: bool) -> None:
    """Print both medians and their ratio, and the rate of multiplications that ours reaches."""
    threads, samples = given.threads, given.samples
    here = str(Path(__file__).parent)
    own: list[float] = []
    own_bf16: list[float] = []
    theirs: list[float] = []
    kind = "nll" if nll else "step"
    for _ in range(given.turns):
        words = [given.peer, "-c", PEER, here, str(threads), str(k), kind, str(samples)]
        words.append(str(given.seconds))
        theirs.append(in_process(words))
        for precision, found in (("fp32", own), ("bf16", own_bf16)):
            words = [sys.executable, __file__, "--side", precision, "--threads", str(threads)]
            words += ["--k", str(k), "--samples", str(samples), *(["--nll"] if nll else [])]
            words += ["--seconds", str(given.seconds)]
            found.append(in_process(words))
    times = [statistics.median(values) * 1e3 for values in (theirs, own, own_bf16)]
    if nll:
        flop = 2 * (samples * DECODER_MULTIPLIES + ENCODER_MULTIPLIES)
        what = f"NLL of one image, {samples} samples"
    else:
        flop = 6 * BATCH * (k * DECODER_MULTIPLIES + ENCODER_MULTIPLIES)
        what = f"training step, k={k}, batch {BATCH}"
    print(
        f"{what}, {threads} thread(s): pythae {times[0]:.2f} ms, ours fp32 {times[1]:.2f} ms "
        f"(ratio {times[0] / times[1]:.1f}), ours bf16 {times[2]:.2f} ms (ratio "
        f"{times[0] / times[2]:.1f}); "
        f"{flop / 1e6:.0f} MFLOP of matrix products, ours fp32 {flop / times[1] / 1e6:.0f} GFLOP/s",
        flush=True,
    )


def main() -> None:
    """Read the arguments; compare everything, or (--side) time one of ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", help="Python of an environment with pythae")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each side and turn")
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--k", type=int, default=0, help="one k only; 0: 1, 5, 50 and the NLL")
    parser.add_argument("--nll", action="store_true", help="the NLL only")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        settings = (given.threads, given.k, given.side, given.nll, given.samples, given.seconds)
        print(json.dumps(ours(*settings)))
        return
    if not given.peer:
        parser.error("--peer is needed: see above")
    for k in [given.k] if given.k else [] if given.nll else [1, 5, 50]:
        compare(given, k, nll=False)
    if given.nll or not given.k:
        compare(given, 1, nll=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    main()
