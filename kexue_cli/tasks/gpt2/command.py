"""`kexue convert`: weights into another format."""

from __future__ import annotations

import argparse

NAME = "convert"
HELP = "convert GPT-2 and GPT2_ML weights: TensorFlow, Hugging Face, runs → safetensors"
DTYPES = ("float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.add_argument(
        "source",
        help="a run directory or .pt of task=gpt2, a Hugging Face folder, a folder written by this "
        "command, or the prefix of a GPT2_ML checkpoint (model.ckpt-100000)",
    )
    parser.add_argument("destination", help="new folder: model.safetensors, config.json, tokenizer")
    parser.add_argument(
        "--to",
        choices=("hf", "kexue"),
        default="kexue",
        help="hf: a GPT-2 that transformers opens; kexue (default): any of our models",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the written numbers")
    parser.add_argument("--config", help="config.json, where it is not beside the weights")
    parser.add_argument("--vocabulary", help="vocab.txt, where it is not beside the weights")


def run(args: argparse.Namespace) -> int:
    """Convert; returns the exit status."""
    from kexue_cli.tasks.gpt2.convert import convert

    convert(args.source, args.destination, args.to, args.dtype, args.config, args.vocabulary)
    return 0
