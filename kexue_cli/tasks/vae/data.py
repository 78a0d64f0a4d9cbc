"""The images of a run, cut to the rows it is limited to."""

from __future__ import annotations

import dataclasses

import numpy as np
from omegaconf import DictConfig

from kexue_cli.config import Mode
from kexue_cli.errors import UserError
from kexue_cli.run.context import Context
from kexue_cli.tasks.common.images import SPLITS, ImageSet, load_images


def images_of(ctx: Context) -> ImageSet:
    """Read `data`, fingerprint it whole, and keep at most `limit.rows` images of each split.

    Files that name no splits are predicted whole.

    Warns where a sample is taken of a file that is sorted by class.
    """
    images = load_images(ctx.cfg.data, whole=ctx.cfg.mode is Mode.predict)
    for split in SPLITS:
        ctx.fingerprint(images.split(split).pixels)
    limit = ctx.cfg.limit.rows
    sampled = [n for n in (limit, ctx.cfg.task.nll_images) if n is not None]
    for split in images.sorted_by_class:
        if any(n < len(images.split(split)) for n in sampled):
            ctx.console.warn(
                f"the {split} file of {images.name} is sorted by class: the sample is spread "
                "evenly over the file, not its first rows; the number is still noisier than that "
                "of the whole file"
            )
    if limit is None:
        return images
    return dataclasses.replace(
        images,
        train=images.train.thinned(limit),
        valid=images.valid.thinned(limit),
        test=images.test.thinned(limit),
    )


def class_numbers(images: ImageSet, split: str, asking: str, cfg: DictConfig) -> np.ndarray:
    """The labels (n,) of a split, for the model or study that `asking` names.

    Raises UserError where it has none, or a class that no training image has.
    """
    found, classes = images.split(split).labels, images.classes
    source = cfg.data.get("path") or f"data={images.name}"
    if found is None or classes == 0:
        raise UserError(
            f"{source}: no labels of the {split} images, which {asking} needs. Add them (an array "
            f"{split}_labels, or one folder per class), or choose another model"
        )
    if found.max() >= classes:
        advice = "raise limit.rows" if cfg.limit.rows else "correct the labels"
        raise UserError(
            f"{source}: the {split} images have class {found.max()}, those of train have 0 to "
            f"{classes - 1}; {advice}"
        )
    return found
