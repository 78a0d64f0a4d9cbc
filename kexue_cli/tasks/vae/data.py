"""The images of a run, cut to the rows it is limited to."""

from __future__ import annotations

import dataclasses

from kexue_cli.run.context import Context
from kexue_cli.tasks.common.images import SPLITS, ImageSet, load_images


def images_of(ctx: Context) -> ImageSet:
    """Read `data`, fingerprint it whole, and keep at most `limit.rows` images of each split.

    Warns where a sample is taken of a file that is sorted by class.
    """
    images = load_images(ctx.cfg.data)
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
