"""Check a submission file against the rules of its task, naming line and reason.

  kexue submit check outputs/lamost/conv1d_res/…-3fa2/submission.csv
  kexue submit check my.csv --like 3fa2                 the rules of that run's submission
  kexue submit check my.csv --ids test_index.csv --classes star,galaxy,qso,unknown

A run's rules are the format, the ids and the class names that its task wrote down
(submission_rules.json). Files of any origin can be checked.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.store import read_object, resolve_one

NAME = "submit"
HELP = "check a submission file: ids, classes, format, line by line"
SHOWN_PROBLEMS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue submit`."""
    parser.add_argument("action", choices=("check",))
    parser.add_argument("file", type=Path)
    parser.add_argument("--like", metavar="RUN", help="take the rules of this run's submission")
    parser.add_argument("--ids", type=Path, metavar="CSV", help="its first column: the ids wanted")
    parser.add_argument("--classes", metavar="A,B", help="the names allowed in the second column")
    parser.add_argument("--header", action="store_true", help="the first line holds column names")
    parser.add_argument("--separator", default=",", help="between fields (default: a comma)")
    add_root_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print every problem (up to a limit), or that there is none."""
    rules = find_rules(args)
    problems = list(check(args.file, rules))
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"{args.file}: {problem}")
    if len(problems) > SHOWN_PROBLEMS:
        print(f"… and {len(problems) - SHOWN_PROBLEMS} more")
    if not problems:
        print(f"{args.file}: {len(rules['ids'] or [])} rows, all as they should be")
    return int(bool(problems))


def find_rules(args: argparse.Namespace) -> dict[str, Any]:
    """The rules from --like, from --ids and --classes, or from the run directory of the file.

    Raises:
        UserError: none of them is there.
    """
    if args.ids is not None or args.classes is not None:
        allowed = {"": args.classes.split(",")} if args.classes else {}
        ids = read_ids(args.ids) if args.ids is not None else None
        rules = {"columns": ["id", ""], "header": args.header, "separator": args.separator}
        return rules | {"allowed": allowed, "ids": ids}
    folder = args.file.parent if args.like is None else resolve_one(args.like, args.root).path
    found, problem = read_object(folder / "submission_rules.json")
    if found is None:
        raise UserError(
            f"{folder} {problem or 'has no submission_rules.json'}: give the rules by --like RUN "
            "or by --ids CSV and --classes A,B"
        )
    return found


def read_ids(path: Path) -> list[str]:
    """The first column of a CSV; a first line "id…" is a header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            ids = [row[0] for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    return ids[1:] if ids and ids[0].lower() == "id" else ids


def check(path: Path, rules: dict[str, Any]) -> Iterator[str]:
    """Every way in which the file breaks the rules, in order of lines."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        yield f"line {line}: not UTF-8 (byte {error.object[error.start]:#04x})"
        return
    lines = list(csv.reader(text.splitlines(), delimiter=rules["separator"]))
    names = rules["columns"]
    start = 0
    if rules["header"]:
        start = 1
        if not lines or lines[0] != names:
            yield f"line 1: expected the header {rules['separator'].join(names)!r}"
    elif lines and lines[0] == names:
        yield "line 1: is a header; this submission has none"
        start = 1
    wanted = None if rules["ids"] is None else set(rules["ids"])
    seen: dict[str, int] = {}
    for number, fields in enumerate(lines[start:], start=start + 1):
        yield from _check_line(number, fields, rules, wanted, seen)
    missing = [i for i in rules["ids"] or [] if i not in seen]
    if missing:
        yield f"{len(missing)} ids are missing, first {missing[0]!r}"


def _check_line(
    number: int,
    fields: list[str],
    rules: dict[str, Any],
    wanted: set[str] | None,
    seen: dict[str, int],
) -> Iterator[str]:
    names = rules["columns"]
    if len(fields) != len(names):
        yield f"line {number}: {len(fields)} fields, expected {len(names)}"
        return
    identifier = fields[0]
    if identifier in seen:
        yield f"line {number}: id {identifier!r} was there before, in line {seen[identifier]}"
    elif wanted is not None and identifier not in wanted:
        yield f"line {number}: id {identifier!r} is not to be predicted"
    seen.setdefault(identifier, number)
    for name, value in zip(names, fields, strict=True):
        allowed = rules["allowed"].get(name)
        if allowed and value not in allowed:
            yield f"line {number}: {value!r} is none of {', '.join(allowed)}"
