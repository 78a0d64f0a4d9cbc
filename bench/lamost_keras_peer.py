"""The network of kexue.fm/archives/5505 in Keras, timed: the peer of lamost_speed.py.

Runs in an environment of its own that has TensorFlow and NumPy:

    python -m venv peer && peer/bin/pip install "tensorflow-cpu==2.15.*"

`lamost_speed.py --keras peer/bin/python` starts it; by hand:
    peer/bin/python bench/lamost_keras_peer.py WEIGHTS.npz THREADS BATCH SECONDS
Prints one line of JSON: spectra per second of training and prediction, and some probabilities.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped,import-not-found,unused-ignore]

keras = tf.keras
layers = keras.layers
FILTERS = (16, 16, 32, 32, 64, 64, 128, 128)


def block(x: Any, filters: int, number: int) -> Any:
    """Three dilated convolutions, each the sum of two ReLUs, plus the (projected) input."""
    y = x
    for i, dilation in enumerate((1, 2, 4), start=1):
        y = layers.Conv1D(
            2 * filters,
            3,
            padding="same",
            dilation_rate=dilation,
            activation="relu",
            name=f"block{number}_conv{i}",
        )(y)
        y = layers.Lambda(lambda t, half=filters: t[..., :half] + t[..., half:])(y)
    if x.shape[-1] != filters:
        x = layers.Conv1D(filters, 1, name=f"block{number}_skip")(x)
    return layers.Add()([x, y])


def network(length: int, n_classes: int) -> Any:
    """Flux (length, 1) to probabilities, with dropout of whole positions."""
    flux = keras.Input((length, 1))
    x = flux
    for number, filters in enumerate(FILTERS, start=1):
        x = block(x if number == 1 else layers.MaxPooling1D(2)(x), filters, number)
    x = layers.Dropout(0.5, noise_shape=(None, x.shape[1], 1))(x)
    x = layers.GlobalMaxPooling1D()(x)
    x = layers.Dense(128, activation="relu", name="dense1")(x)
    return keras.Model(flux, layers.Dense(n_classes, activation="softmax", name="dense2")(x))


def load(model: Any, path: str) -> None:
    """Fill the model from an npz whose names are `<layer with slashes>/<kernel or bias>`."""
    weights = np.load(path)
    for layer in model.layers:
        if layer.weights:
            name = layer.name.replace("_", "/")
            layer.set_weights([weights[f"{name}/kernel"], weights[f"{name}/bias"]])


def rate(work: Callable[[], object], items: int, seconds: float) -> float:
    """Items per second: the median of repetitions that fill `seconds`, after two to warm up."""
    for _ in range(2):
        work()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return items / float(np.median(times))


def main() -> None:
    path, threads, batch, seconds = (
        sys.argv[1],
        int(sys.argv[2]),
        int(sys.argv[3]),
        float(sys.argv[4]),
    )
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    model = network(2600, 4)
    load(model, path)
    rng = np.random.default_rng(0)
    flux = rng.normal(size=(batch, 2600, 1)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(4, size=batch)]
    probabilities = model.predict_on_batch(flux[:4])
    model.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy")
    found = {
        "version": tf.__version__,
        "predict": rate(lambda: model.predict_on_batch(flux), batch, seconds),
        "train": rate(lambda: model.train_on_batch(flux, labels), batch, seconds),
        "probabilities": probabilities.tolist(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
