"""An evaluation's folder in the store: `folds/<i>.json`, `results.json`, `report.html`, `report.sha256`; whole files or none."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from modelship_trainer.artifact.files import write_atomically
from modelship_trainer.errors import UserError
from modelship_trainer.evaluation.records import FoldRecord, Results
from modelship_trainer.locations import local_path
from modelship_trainer.protocol import FailureReason
from modelship_trainer.schema import digest_of

REPORT = "report.html"
_MAX_URI = 1024
"""The result names the report, and has to fit into a termination message beside the numbers of 20 folds."""


class EvaluationFolder:
    """The folder that `EvaluateTask.store` names."""

    def __init__(self, uri: str) -> None:
        """Raises UserError: RecipeInvalid, StoreUnavailable."""
        self.uri = uri.rstrip("/")
        if len(self.uri) > _MAX_URI:
            raise UserError(
                FailureReason.RECIPE_INVALID, f"the store's URI has {len(self.uri)} characters, at most {_MAX_URI} are possible."
            )
        self.path = local_path(self.uri)

    def fold_path(self, fold: int) -> Path:
        """Of the fold's record."""
        return self.path / "folds" / f"{fold}.json"

    def checkpoints(self, fold: int) -> Path:
        """Where a fold's training saves itself; removed when the fold is recorded."""
        return self.path / "checkpoints" / f"fold-{fold}"

    def write_fold(self, record: FoldRecord) -> None:
        """Write `folds/<i>.json`."""
        self._write(self.fold_path(record.result.fold), record.to_json_text().encode())

    def read_fold(self, fold: int, identity: str) -> FoldRecord | None:
        """The fold's record, None where there is none yet.

        Raises:
            UserError: DataInvalid where it is unreadable, or of another evaluation; the message names the file.
        """
        name = f"{self.uri}/folds/{fold}.json"
        try:
            record = FoldRecord.model_validate_json(self.fold_path(fold).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValidationError as error:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"fold {fold}: {name} is not a fold's record ({_first(error)}); delete it and evaluate again.",
            ) from error
        if record.identity != identity or record.result.fold != fold:
            raise UserError(
                FailureReason.DATA_INVALID,
                f"fold {fold}: {name} is of another recipe, data, code, method or metrics; evaluate into an empty folder.",
            )
        return record

    def reusable_fold(self, fold: int, identity: str) -> FoldRecord | None:
        """The fold's record if it is whole and of this evaluation; else the fold is trained again and the record replaced."""
        try:
            return self.read_fold(fold, identity)
        except UserError:
            return None

    def read_folds(self, count: int, identity: str) -> list[FoldRecord]:
        """The records of all folds.

        Raises:
            UserError: StoreUnavailable where one is missing, DataInvalid where one is unusable; the message names it.
        """
        found = [self.read_fold(fold, identity) for fold in range(count)]
        missing = [fold for fold, record in enumerate(found) if record is None]
        if missing:
            raise UserError(
                FailureReason.STORE_UNAVAILABLE,
                f"fold {missing[0]} of {count} has no record {self.uri}/folds/{missing[0]}.json; run that fold again.",
            )
        return [record for record in found if record is not None]

    def write_results(self, results: Results, report: str) -> str:
        """Write the numbers, the report and the report's digest, which is returned."""
        html = report.encode()
        self._write(self.path / "results.json", results.model_dump_json(by_alias=True, exclude_none=True, indent=1).encode())
        self._write(self.path / REPORT, html)
        digest = digest_of(html)
        self._write(self.path / "report.sha256", f"{digest.removeprefix('sha256:')}  {REPORT}\n".encode())
        return digest

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
        except OSError as error:
            raise UserError(
                FailureReason.STORE_UNAVAILABLE, f"{self.uri}: {path.name} cannot be written: {error.strerror}."
            ) from error


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first["loc"] else first["msg"]
