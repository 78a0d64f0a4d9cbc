"""Average the class probabilities of several runs and write one submission.

  kexue blend 3fa2 9b01 77c0                          equal weights
  kexue blend SWEEP --method geometric
  kexue blend 3fa2 9b01 --fit                         weights with the best validation likelihood
  kexue blend 3fa2 9b01 --weights 0.7,0.3

Folds of one setting (kexue-run -m … data.n_folds=5 data.fold=0,1,2,3,4) are assembled first: their
validation rows give out-of-fold scores, their test predictions are averaged. Weights are fitted on
validation rows only; the score printed for them is cross-fitted, so fitting does not flatter it.
The blend is a run directory of its own, model "blend".
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kexue_cli.errors import UserError
from kexue_cli.manage import tables
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.manage.store import read_object, resolve
from kexue_cli.run.directory import SCHEMA_VERSION, RunDirectory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kexue_cli.manage.predictions import Member
    from kexue_cli.submission import Submission

NAME = "blend"
HELP = "average probabilities of runs or folds, score and write one submission"
WORDS = "names"
RULES = "submission_rules.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue blend`."""
    parser.add_argument("names", nargs="+", metavar="RUN|SWEEP")
    parser.add_argument("--method", choices=("mean", "geometric", "rank"), default="mean")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument("--weights", metavar="W1,W2", help="one per member, in order")
    weights.add_argument("--fit", action="store_true", help="fit the weights on validation rows")
    add_root_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Blend, score, write, say where."""
    from kexue_cli.manage.predictions import read_members

    if args.fit and args.method != "mean":
        raise UserError(f"--fit fits the weights of --method mean, not of {args.method}")
    runs = [run for name in args.names for run in resolve(name, args.root)]
    members = read_members(list({run.path.resolve(): run for run in runs}.values()))
    weights = _weights(args, members)
    directory = blend(members, args.method, weights, args.fit, args.root)
    print(f"\n{directory}")
    return 0


def _weights(args: argparse.Namespace, members: Sequence[Member]) -> NDArray[np.float64]:
    import numpy as np

    if args.fit:
        from kexue_cli.manage.blending import fit_weights

        validation = _validation(members)
        if validation is None:
            raise UserError(
                "--fit needs validation rows (predictions_valid.csv) that all runs share"
            )
        return fit_weights(*validation)
    if args.weights is None:
        return np.full(len(members), 1 / len(members))
    try:
        weights = np.array([float(word) for word in args.weights.split(",")])
    except ValueError:
        raise UserError(f"--weights {args.weights}: expected numbers such as 0.7,0.3") from None
    if len(weights) != len(members) or (weights < 0).any() or weights.sum() <= 0:
        names = ", ".join(member.name for member in members)
        raise UserError(
            f"--weights {args.weights}: expected {len(members)} numbers ≥ 0, one each for {names}"
        )
    return np.asarray(weights / weights.sum())


def _validation(
    members: Sequence[Member],
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """Probabilities (member, row, class) and targets (row,) of the validation rows all share."""
    import numpy as np

    from kexue_cli.manage.predictions import common_validation_ids

    first, ids = members[0], common_validation_ids(members)
    if not ids or first.valid is None:
        return None
    stacked = [m.valid.loc[ids, m.classes] for m in members if m.valid is not None]
    p = np.stack([table.to_numpy(dtype=np.float64) for table in stacked])
    return p, _numbers(first.valid.loc[ids, "target"], first.classes)


def _numbers(targets: Iterable[Any], classes: Sequence[str]) -> NDArray[np.int64]:
    """Class numbers of class names."""
    import numpy as np

    number = {name: k for k, name in enumerate(classes)}
    names = [str(name) for name in targets]
    unknown = sorted(set(names) - set(number))
    if unknown:
        raise UserError(
            f"targets {', '.join(unknown)} are none of the classes {', '.join(classes)}"
        )
    return np.array([number[name] for name in names], dtype=np.int64)


def blend(
    members: Sequence[Member],
    method: str,
    weights: NDArray[np.float64],
    fitted: bool,
    root: Path,
) -> Path:
    """Write the blend as a run directory and print the scores; returns the directory."""
    import numpy as np

    from kexue_cli.manage.blending import METHODS, cross_fitted

    first = members[0]
    aligned = [member.test.loc[first.test.index, member.classes] for member in members]
    stacked = np.stack([table.to_numpy(dtype=np.float64) for table in aligned])
    test = METHODS[method](stacked, weights)
    splits: dict[str, dict[str, float]] = {}
    validation = _validation(members)
    if validation is not None:
        p, target = validation
        blended = cross_fitted(p, target) if fitted else METHODS[method](p, weights)
        name = f"{method}, weights cross-fitted" if fitted else method
        splits["valid"] = _say_scores("validation", members, p, target, weights, blended, name)
    else:
        print("no validation scores: no validation row (predictions_valid.csv) is shared by all")
    if "target" in first.test and first.test["target"].notna().all():
        answers = _numbers(first.test["target"], first.classes)
        splits["test"] = _say_scores("test", members, stacked, answers, weights, test, method)
    return _write(members, method, weights, test, splits, root)


def _say_scores(
    kind: str,
    members: Sequence[Member],
    p: NDArray[np.float64],
    target: NDArray[np.int64],
    weights: NDArray[np.float64],
    blended: NDArray[np.float64],
    name: str,
) -> dict[str, float]:
    """Print the members' scores and the blend's on rows with known answers; returns the latter."""
    from kexue_cli.manage.blending import scores

    rows: list[tables.Row] = [
        {"member": member.name, "weight": float(weight), **scores(one, target)}
        for member, one, weight in zip(members, p, weights, strict=True)
    ]
    found = scores(blended, target)
    rows.append({"member": f"blend ({name})", "weight": None, **found})
    folds = " (out of fold)" if any(len(member.runs) > 1 for member in members) else ""
    print(f"{len(target):,} {kind} rows{folds}\n{tables.render(rows)}\n")
    return found


def _write(
    members: Sequence[Member],
    method: str,
    weights: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    splits: dict[str, dict[str, float]],
    root: Path,
) -> Path:
    from kexue_cli.run.record import environment, now, process_identity

    first = members[0]
    record = first.runs[0].record
    ids = [str(i) for i in first.test.index]
    predicted = [first.classes[k] for k in probabilities.argmax(axis=1)]
    # What cannot be submitted is found before anything is written.
    submission = _submission(first, ids, predicted)
    text = None if submission is None else submission.to_text()
    directory = RunDirectory.create(root, str(record["task"]), "blend")
    columns = {"id": ids, "prediction": predicted}
    columns |= {name: list(probabilities[:, k]) for k, name in enumerate(first.classes)}
    directory.write_table("predictions.csv", columns)
    if submission is not None and text is not None:
        directory.write_text("submission.csv", text)
        directory.write_json(RULES, submission.rules())
    primary = first.runs[0].primary
    split = "valid" if "valid" in splits else "test"
    if splits:
        name = str(primary.get("name"))
        name = name if name in splits[split] else "macro_f1"
        mode = "min" if name == "log_loss" else "max"
        stated = {"name": name, "value": splits[split][name], "mode": mode, "split": split}
        directory.write_json("metrics.json", {"primary": stated, **splits})
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "status": "done",
        "task": record["task"],
        "model": "blend",
        "data": record["data"],
        "mode": "predict",
        "overrides": [f"method={method}"],
        "members": [[str(run.path) for run in member.runs] for member in members],
        "weights": [float(weight) for weight in weights],
        "data_fingerprint": record.get("data_fingerprint"),
        "started": now(),
        "ended": now(),
        "process": process_identity(),
        **environment(),
    }
    directory.write_json("run.json", content)
    return directory.path


def _submission(member: Member, ids: list[str], predicted: list[str]) -> Submission | None:
    """In the format of the first run's own submission."""
    from kexue_cli.submission import Submission

    rules, problem = read_object(member.runs[0].path / RULES)
    if rules is None:
        print(f"no submission: {member.runs[0].path} {problem or 'has no ' + RULES}")
        return None
    id_column, *others = rules["columns"]
    if len(others) != 1:
        print(f"no submission: its columns are {', '.join(rules['columns'])}, not id and class")
        return None
    allowed = {name: set(values) for name, values in rules["allowed"].items()}
    columns: dict[str, Sequence[Any]] = {str(id_column): ids, str(others[0]): predicted}
    # Folds without a common test set predict a part each.
    wanted = dict.fromkeys(rules["ids"])
    for run in member.runs[1:]:
        wanted.update(dict.fromkeys((read_object(run.path / RULES)[0] or {}).get("ids", ())))
    return Submission(columns, rules["header"], rules["separator"], list(wanted), allowed)
