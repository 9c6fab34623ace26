"""What the commands import: most of a small job's CPU was modules that it never used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

RECIPE = {
    "data": {
        "source": "sklearn://breast_cancer",
        "preprocessing": [
            {"dropDuplicates": {}},
            {"impute": {"strategy": "mean"}},
            {"clip": {"lowerQuantile": 0.01, "upperQuantile": 0.99}},
            {"normalize": {"method": "robust"}},
        ],
    },
    "model": {"mlp": {"hidden": [4], "dropout": 0.1}},
    "training": {"task": "classification", "epochs": 1, "optimizer": {"adamw": {}}, "earlyStopping": {"metric": "val_roc_auc"}},
}
COMPILERS = {"torch._dynamo", "torch._inductor", "torch.onnx._internal.exporter", "onnxscript", "sympy"}
UNUSED = {"sklearn", "scipy", "fsspec", "aiohttp", "pyarrow.dataset"}


def imported(command: str, *arguments: str) -> set[str]:
    """All modules that are there when the command has ended well."""
    program = f"""
import sys
from modelship_trainer.cli import {command}
status = {command}({list(arguments)!r})
print("MODULES", *sys.modules)
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rsplit("MODULES ", 1)[1].split())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imports")


@pytest.fixture(scope="module")
def of_training(store: Path) -> set[str]:
    (store / "recipe.json").write_text(json.dumps(RECIPE))
    return imported("train", "--recipe", f"{store}/recipe.json", "--output", f"{store}/out")


@pytest.fixture(scope="module")
def artifact(store: Path, of_training: set[str]) -> Path:
    (found,) = (store / "out/artifacts").glob("sha256-*")
    return found


def test_training_imports_no_compiler_and_no_estimators(of_training: set[str]) -> None:
    assert "torch" in of_training
    assert not of_training & (COMPILERS | UNUSED | {"matplotlib"})


def test_scoring_imports_no_torch(artifact: Path, store: Path) -> None:
    modules = imported("evaluate", "--artifact", str(artifact), "--output", f"{store}/scored")
    assert "onnxruntime" in modules
    assert not modules & ({"torch", "onnx", "safetensors"} | COMPILERS | UNUSED)


def test_folds_import_what_training_does(artifact: Path, store: Path) -> None:
    arguments = ("--artifact", str(artifact), "--output", f"{store}/folds", "--method", "kfold", "--folds", "2")
    assert not imported("evaluate", *arguments) & (COMPILERS | UNUSED)
