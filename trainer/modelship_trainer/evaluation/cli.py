"""`modelship-evaluate` on a laptop: measure an artifact without Kubernetes, by the code that the pods run.

modelship-evaluate --artifact DIR --output DIR [--method holdout|kfold] [--folds 5] [--metric f1]... [--gate 'accuracy>=0.9']...
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from modelship_trainer.artifact.manifest import MANIFEST
from modelship_trainer.errors import UserError, listing
from modelship_trainer.evaluation.report import number, spread
from modelship_trainer.evaluation.run import OnProgress, ShouldStop, run_score
from modelship_trainer.judgement import MAX_FOLDS, Gate, Metric, Statistic, judge
from modelship_trainer.locations import output_folder
from modelship_trainer.protocol import ArtifactRef, EvaluateResult, EvaluateTask, FailureReason, RunRef
from modelship_trainer.recipe.data import SourceUri
from modelship_trainer.recipe_file import explain
from modelship_trainer.schema import digest_of

GATE_FAILED = 3
"""Exit code where a gate did not pass, so that a script stops there."""
_GATE = re.compile(r"\s*([a-z0-9_]+)(?::(\w+))?\s*(>=|<=)\s*(\S+)\s*")


def main(argv: Sequence[str], progress: OnProgress, should_stop: ShouldStop = lambda: False) -> int:
    """Run all folds here, one after the other, then the score; print what came out. Returns the exit code.

    Raises:
        UserError, Interrupted: as `run_folds` and `run_score` do.
    """
    task = task_of(parse(argv))
    if task.method.k_fold:
        from modelship_trainer.evaluation.retrain import run_folds  # torch

        run_folds(task, range(task.method.k_fold.folds), progress, should_stop)
    result = run_score(task, progress)
    print(summary(task, result))
    return 0 if all(judge(gate, result.results).passed for gate in task.gates) else GATE_FAILED


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exits with code 2 and the usage where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="modelship-evaluate",
        description="Measure a trained artifact: score its test split, cross-validate its recipe, judge gates, write a report.",
        epilog="In a pod of Modelship it takes no arguments: MODELSHIP_TASK says what to do.",
    )
    parser.add_argument("--artifact", required=True, type=Path, metavar="DIR", help="folder with the artifact's manifest.json")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="where report.html, results.json and folds/ go")
    parser.add_argument(
        "--data", metavar="PATH|URI", help="score other data, all of it; default: the test split of the recipe's own"
    )
    parser.add_argument("--method", choices=["holdout", "kfold"], default="holdout", help="default: holdout")
    parser.add_argument("--folds", type=int, default=5, metavar="K", help=f"folds of kfold, 2 to {MAX_FOLDS}; default: 5")
    parser.add_argument("--seed", type=int, default=0, help="seed of the folds; default: 0")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        type=Metric,
        choices=list(Metric),
        metavar="METRIC",
        help=f"of {', '.join(Metric)}; default: all",
    )
    parser.add_argument(
        "--gate",
        dest="gates",
        action="append",
        default=[],
        type=parse_gate,
        metavar="GATE",
        help=f"'accuracy>=0.9', 'f1:worst>=0.7' ({', '.join(Statistic)}); repeatable; exit code {GATE_FAILED} if one fails",
    )
    return parser.parse_args(argv)


def parse_gate(text: str) -> Gate:
    """`metric>=number` or `metric:statistic<=number`.

    Raises:
        argparse.ArgumentTypeError: it is not such a thing.
    """
    match = _GATE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no gate; write metric>=number or metric<=number, such as 'accuracy>=0.9'")
    metric, statistic, comparison, bound = match.groups()
    fields = {"metric": metric, "min" if comparison == ">=" else "max": bound} | ({"statistic": statistic} if statistic else {})
    try:
        return Gate.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise argparse.ArgumentTypeError(f"{text!r}: {first['loc'][0]}: {first['msg']}") from error


def task_of(arguments: argparse.Namespace) -> EvaluateTask:
    """The task that a pod would be given for these arguments.

    Raises:
        UserError: DataNotFound where there is no artifact, RecipeInvalid where a value is out of bounds.
    """
    artifact, output = arguments.artifact.resolve(), output_folder(arguments.output)
    try:
        digest = digest_of((artifact / MANIFEST).read_bytes())
    except OSError as error:
        beside = sorted(path.parent.name for path in artifact.glob(f"*/{MANIFEST}"))
        hint = f"; in it are artifacts: {listing(beside)}" if beside else ""
        raise UserError(FailureReason.DATA_NOT_FOUND, f"{artifact} has no {MANIFEST}, so it is no artifact{hint}.") from error
    k_fold = {"kFold": {"folds": arguments.folds, "seed": arguments.seed}}
    try:
        return EvaluateTask.model_validate(
            {
                "run": RunRef(kind="ModelEvaluation", namespace="local", name=output.name, uid="local"),
                "artifact": ArtifactRef(uri=f"file://{artifact}", digest=digest),
                "source": _source(arguments.data),
                "method": k_fold if arguments.method == "kfold" else {"holdout": {}},
                "metrics": arguments.metrics,
                "gates": arguments.gates,
                "store": f"file://{output}",
            }
        )
    except ValidationError as error:
        raise UserError(FailureReason.RECIPE_INVALID, explain(error, EvaluateTask)) from error


def _source(data: str | None) -> str | None:
    """A path becomes a file URI.

    Raises:
        UserError: RecipeInvalid where it is another URI than `data.source` may be.
    """
    if data is None or "://" not in data:
        return None if data is None else f"file://{Path(data).resolve()}"
    try:
        return TypeAdapter(SourceUri).validate_python(data)
    except ValidationError as error:
        raise UserError(FailureReason.RECIPE_INVALID, f"--data: {explain(error)}") from error


def summary(task: EvaluateTask, result: EvaluateResult) -> str:
    """The numbers and the verdict, for a terminal."""
    lines = [f"{'metric':<12}{'mean':>10}{'std':>10}{'test':>10}"]
    for row in result.results:
        deviation = "-" if row.std is None else spread(row.std)
        lines.append(f"{row.metric.value:<12}{number(row.mean):>10}{deviation:>10}{number(row.test):>10}")
    outcomes = [judge(gate, result.results) for gate in task.gates]
    lines += [f"{'passed' if outcome.passed else 'FAILED'}: {outcome.message}" for outcome in outcomes]
    verdict = "Passed" if all(outcome.passed for outcome in outcomes) else "Failed"
    return "\n".join(
        [
            *lines,
            f"{verdict}, {result.artifact_digest} on {result.rows:,} test rows",
            f"report: {result.report.removeprefix('file://')}",
        ]
    )
