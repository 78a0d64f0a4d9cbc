"""Data sets: what there is, whether it is here and whole, and how to get it.

  kexue data list              every data set, whether it is here (--format json: all fields)
  kexue data check mnist       sizes and SHA-256 of every file; a task's name means all its sets
  kexue data fetch mnist drcd  download what is public: continued after a break, checked
  kexue data prepare plsa_ap   unpack archives that lie in the folder already

Data sets lie in ./data, or where KEXUE_DATA_DIR points.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.manage import datasets, tables
from kexue_cli.manage.datasets import Dataset
from kexue_cli.paths import data_dir

NAME = "data"
HELP = "list, check, fetch and prepare data sets"
WORDS = "names"
# A terminal has no room for licence and origin; `check` and the other formats give them.
TABLE_COLUMNS = ("name", "tasks", "state", "fetch", "what")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue data`."""
    parser.add_argument("action", choices=("list", "check", "fetch", "prepare"))
    parser.add_argument("names", nargs="*", metavar="DATASET|TASK", help="default: all")
    parser.add_argument("--root", type=Path, default=None, metavar="DIR", help="data folder")
    tables.add_format_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Do the action for the named data sets."""
    root = args.root if args.root is not None else data_dir()
    chosen = datasets.choose(args.names, datasets.load_all())
    if args.action == "list":
        columns = list(TABLE_COLUMNS) if args.format == "table" else None
        print(tables.render([list_row(d, root) for d in chosen], columns, args.format))
        return 0
    if args.action == "check":
        return check(chosen, root, args.format)
    if not args.names:
        raise UserError(f"kexue data {args.action} needs names; `kexue data list` shows them")
    action = fetch if args.action == "fetch" else prepare
    return max(action(dataset, root) for dataset in chosen)


def list_row(dataset: Dataset, root: Path) -> tables.Row:
    """One line of the list; sizes are looked at, contents are not."""
    return {
        "name": dataset.name,
        "tasks": ",".join(dataset.tasks),
        "state": datasets.summary_of(dataset, root),
        "fetch": dataset.fetchable,
        "what": dataset.description,
        "licence": dataset.licence,
        "origin": dataset.origin,
        "files": len(dataset.files),
    }


def check(chosen: list[Dataset], root: Path, format: str) -> int:
    """Say the state of every file, and for absent ones where they come from."""
    rows = []
    for dataset in chosen:
        folder = root / dataset.folder
        for file in dataset.files:
            state = datasets.state_of(file, folder, deep=True)
            rows.append({"data set": dataset.name, "file": str(folder / file.path), "state": state})
        if not dataset.files:
            state = datasets.summary_of(dataset, root)
            rows.append({"data set": dataset.name, "file": str(folder), "state": state})
    print(tables.render(rows, format=format))
    if format == "table":
        for dataset in chosen:
            if datasets.summary_of(dataset, root) != "here":
                print("\n" + how_to_get(dataset, root))
    return int(any(row["state"] not in ("whole", "here") for row in rows))


def how_to_get(dataset: Dataset, root: Path) -> str:
    """Where a data set comes from and what to do."""
    lines = [f"{dataset.name}: {dataset.title}; {dataset.origin}; licence: {dataset.licence}"]
    if dataset.fetchable != "no":
        lines.append(f"  kexue data fetch {dataset.name}")
    if dataset.obtain is not None:
        lines.append(f"  {dataset.obtain}")
    lines.append(f"  folder: {root / dataset.folder}")
    return "\n".join(lines)


def fetch(dataset: Dataset, root: Path) -> int:
    """Download the files that are not here whole; returns 1 if some cannot be fetched."""
    from kexue_cli.manage.download import fetch as fetch_file

    folder = root / dataset.folder
    missing = 0
    for file in dataset.files:
        if datasets.state_of(file, folder, deep=True) == "whole":
            print(f"{folder / file.path}: here")
        elif file.url is None:
            missing += 1
        else:
            print(f"{folder / file.path}: from {file.url}", flush=True)
            fetch_file(file, folder, say=print)
    if missing or not dataset.files:
        print(f"\n{missing or 'All'} files of this set cannot be downloaded by a program.")
        print(how_to_get(dataset, root))
        return 1
    print(f"{dataset.name} is complete. Licence: {dataset.licence}")
    return 0


def prepare(dataset: Dataset, root: Path) -> int:
    """Unpack what comes in archives; of what is made by hand, say how. Returns 1 if files miss."""
    from kexue_cli.manage.download import archive_path, unpack

    folder = root / dataset.folder
    packed = [file for file in dataset.files if file.member is not None]
    for file in packed:
        assert file.url is not None
        by_hand = folder / file.url.rpartition("/")[2]
        archive = by_hand if by_hand.exists() else archive_path(file)
        if not archive.exists():
            raise UserError(
                f"{by_hand} is not here. Put it there, or: kexue data fetch {dataset.name}"
            )
        unpack(file, archive, folder)
        print(f"{folder / file.path}: from {archive}")
    if packed:
        return 0
    if datasets.summary_of(dataset, root) != "here":
        print(f"{dataset.name} has no archive to unpack, and not all of its files are here.")
        print(how_to_get(dataset, root))
        return 1
    print(f"{dataset.name} needs no preparing: its files are read as they are")
    return 0
