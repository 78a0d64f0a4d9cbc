"""Score the answers of any system as the contests do.

kexue score sogouqa submission.txt --answers qid_answer_expand
kexue score cmrc predictions.json --answers cmrc2018_dev.json --json
kexue score squad predictions.json --answers dev-v1.1.json
kexue score webqa answers.json --answers WebQA.json --lists evaluation/
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from kexue_cli.errors import UserError

NAME = "score"
HELP = "score answers as SogouQA, CMRC 2018, SQuAD or WebQA do"
WITHOUT_LISTS = (
    "note: the fuzzy scores are without the synonyms and county names of WebQA's tool, so fewer "
    "answers are right than by the tool; --lists <its folder evaluation> reads them"
)
SCHEMAS = ("BO", "BO2", "BIO", "BIO2", "BIO3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.add_argument("contest", choices=("sogouqa", "cmrc", "squad", "webqa"))
    parser.add_argument(
        "file",
        type=Path,
        help='sogouqa: lines id<TAB>answer; cmrc, squad: JSON {"id": "answer"}; webqa: either, or '
        'JSON {"id": {"evidence": "answer"}}, or labels of tokens',
    )
    parser.add_argument(
        "--answers",
        type=Path,
        required=True,
        metavar="FILE",
        help="sogouqa: lines id<TAB>standard answer<TAB>accepted|accepted; others: the data set",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--punctuation",
        type=Path,
        metavar="FILE",
        help="sogouqa: one character a line instead of the contest's list",
    )
    parser.add_argument(
        "--lists",
        type=Path,
        metavar="FOLDER",
        help="webqa: the folder `evaluation` of WebQA's tool, whose synonyms and county names are "
        "not part of this package; without it fewer answers are the same",
    )
    parser.add_argument(
        "--schema", choices=SCHEMAS, default="BIO2", help="webqa: of labels; default BIO2"
    )


def run(args: argparse.Namespace) -> int:
    """Score and print; returns the exit status."""
    from kexue_cli.tasks.dgcnn import score_cmrc, score_sogouqa, score_squad, score_webqa

    if args.punctuation is not None and args.contest != "sogouqa":
        raise UserError(f"--punctuation is for sogouqa; {args.contest} has its own fixed list")
    if args.lists is not None and args.contest != "webqa":
        raise UserError(f"--lists is for webqa; {args.contest} knows no synonyms")
    if args.contest == "sogouqa":
        result = score_sogouqa.score(args.file, args.answers, args.punctuation)
    elif args.contest == "webqa":
        result = score_webqa.score(args.file, args.answers, args.lists, args.schema)
        if args.lists is None:
            print(WITHOUT_LISTS, file=sys.stderr)
    else:
        module = {"cmrc": score_cmrc, "squad": score_squad}[args.contest]
        result = module.score(args.file, args.answers)
    if args.json:
        print(json.dumps(result))
    else:
        width = max(map(len, result))
        for key, value in result.items():
            print(f"{key:{width}}  {value}")
    return 0
