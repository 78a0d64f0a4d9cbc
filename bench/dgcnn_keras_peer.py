"""The open Keras reader of kexue.fm/archives/6906, timed: the peer of dgcnn_speed.py.

Runs in an environment of its own that has TensorFlow and NumPy:

    python -m venv peer && peer/bin/pip install "tensorflow-cpu==2.15.*"

`dgcnn_speed.py --keras peer/bin/python` starts it; by hand:
    peer/bin/python bench/dgcnn_keras_peer.py WEIGHTS.npz LENGTHS.npz THREADS SECONDS
LENGTHS.npz has `question` and `passage`, each (batches, questions).
Prints one line of JSON: passages per second of training and prediction, and some scores. Training
is the focal loss with Keras' Adam; the original's RAdam and moving average would only add to it.
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
WORD_WIDTH = 128


def gated_block(x: Any, mask: Any, dilation: int, name: str) -> Any:
    """Highway block of one convolution, its gates with dropout."""
    width = x.shape[-1]
    both = layers.Conv1D(2 * width, 3, padding="same", dilation_rate=dilation, name=name)(x * mask)
    gate = tf.sigmoid(layers.Dropout(0.1)(both[..., width:]))
    return ((1 - gate) * x + gate * both[..., :width]) * mask


def pooled(x: Any, mask: Any, name: str) -> Any:
    """Additive attention over the unmasked positions."""
    hidden = layers.Dense(x.shape[-1], use_bias=False, activation="tanh", name=f"{name}/k_dense")(x)
    scores = layers.Dense(1, use_bias=False, name=f"{name}/o_dense")(hidden) - (1 - mask) * 1e12
    return tf.reduce_sum(tf.nn.softmax(scores, axis=1) * x, axis=1)


def beside(x: Any, vector: Any) -> Any:
    """The vector at every position."""
    return tf.concat([x, tf.tile(vector[:, None], [1, tf.shape(x)[1], 1])], axis=2)


def network(n_characters: int) -> Any:
    """Ids and word vectors of question and passage to start and end scores."""
    q_ids = keras.Input((None,), dtype="int32")
    q_words = keras.Input((None, WORD_WIDTH))
    p_ids = keras.Input((None,), dtype="int32")
    p_words = keras.Input((None, WORD_WIDTH))
    characters = layers.Embedding(n_characters, 128, name="embed")
    project = layers.Dense(128, use_bias=False, name="embed/word_dense")
    q_mask, p_mask = (tf.cast(ids > 0, tf.float32)[..., None] for ids in (q_ids, p_ids))
    q = layers.Dropout(0.1)(characters(q_ids) + project(q_words))
    for number, dilation in enumerate((1, 2, 1), start=1):
        q = gated_block(q, q_mask, dilation, f"q_block{number}/conv")
    asked = pooled(q, q_mask, "q_pool")
    p = layers.Dropout(0.1)(characters(p_ids) + project(p_words))
    p = layers.Dense(128, use_bias=False, name="p_dense")(beside(p, asked))
    for number, dilation in enumerate((1, 2, 4, 8, 16, 1), start=1):
        p = gated_block(p, p_mask, dilation, f"p_block{number}/conv")
    p = beside(p, asked)
    whole = layers.Dense(1, activation="sigmoid", name="global_head")(pooled(p, p_mask, "p_pool"))
    start, end = (
        layers.Dense(1, activation="sigmoid", name=f"{side}_head")(p) for side in ("start", "end")
    )
    scores = tf.concat([start, end], axis=2) * whole[:, None]
    return keras.Model([q_ids, q_words, p_ids, p_words], scores)


def focal_loss(targets: Any, scores: Any) -> Any:
    """Over all positions; the mask would not change its cost."""
    p = tf.clip_by_value(scores, 1e-8, 1 - 1e-7)
    positive = -0.25 * (1 - p) ** 2 * tf.math.log(p) * targets
    negative = -0.75 * p**2 * tf.math.log(1 - p) * (1 - targets)
    return 100 * tf.reduce_mean(tf.reduce_sum(positive + negative, axis=2))


def load(model: Any, path: str) -> None:
    """Fill the model from an npz in the layout of `keras_weights.py`."""
    weights = np.load(path)
    for layer in model.layers:
        if layer.name == "embed":
            layer.set_weights([weights["embed/char_embeddings"]])
        elif layer.weights:
            names = [f"{layer.name}/{part}" for part in ("kernel", "bias")]
            layer.set_weights([weights[name] for name in names if name in weights])


def rate(work: Callable[[], object], items: int, seconds: float) -> float:
    """Items per second: the median of repetitions that fill `seconds`, after one to warm up."""
    work()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return items / float(np.median(times))


def batch_of(question: Any, passage: Any, n_characters: int) -> tuple[list[Any], Any]:
    """Ids and word vectors, padded to the longest, and targets."""
    rng = np.random.default_rng(0)
    given: list[Any] = []
    for lengths in (question, passage):
        shape = (len(lengths), int(lengths.max()))
        ids = rng.integers(1, n_characters, size=shape).astype(np.int32)
        ids[np.arange(shape[1]) >= lengths[:, None]] = 0
        given += [ids, rng.normal(size=(*shape, WORD_WIDTH)).astype(np.float32)]
    targets = (rng.random((*given[2].shape, 2)) < 0.01).astype(np.float32)
    return given, targets


def main() -> None:
    threads, seconds = int(sys.argv[3]), float(sys.argv[4])
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    n_characters = len(np.load(sys.argv[1])["embed/char_embeddings"])
    model = network(n_characters)
    load(model, sys.argv[1])
    lengths = np.load(sys.argv[2])
    batches = [
        batch_of(*pair, n_characters)
        for pair in zip(lengths["question"], lengths["passage"], strict=True)
    ]
    scores = model.predict_on_batch([part[:4] for part in batches[0][0]])
    model.compile(keras.optimizers.Adam(1e-3), focal_loss)
    n_questions = lengths["question"].size

    def predict() -> None:
        for given, _ in batches:
            model.predict_on_batch(given)

    def train() -> None:
        for given, targets in batches:
            model.train_on_batch(given, targets)

    found = {
        "version": tf.__version__,
        "predict": rate(predict, n_questions, seconds),
        "train": rate(train, n_questions, seconds),
        "scores": scores.tolist(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
