"""Every YAML block of docs/recipes.md is valid, and those on bundled data train."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from modelship_trainer.data.load import load
from modelship_trainer.data.prepare import prepare
from modelship_trainer.data.split import split
from modelship_trainer.models.build import build
from modelship_trainer.recipe import ModelSpec, Optimizer, Recipe, Step
from modelship_trainer.training.loop import fit

pytestmark = pytest.mark.unit
TEXT = (Path(__file__).parents[3] / "docs" / "recipes.md").read_text()
BLOCKS: list[dict[str, Any]] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]


def test_the_guide_has_examples() -> None:
    assert len([block for block in BLOCKS if "data" in block]) >= 4


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: "-".join(block))
def test_block(block: dict[str, Any]) -> None:
    if "data" not in block:
        (name,) = block
        [Step.model_validate(step) for step in block[name]] if name == "preprocessing" else ModelSpec.model_validate(block[name])
        return
    recipe = Recipe.model_validate(block)
    if not recipe.data.source.startswith("sklearn://"):
        return
    dataset = load(recipe.data, task=recipe.training.task)
    parts = split(dataset, recipe.data.split, recipe.training.task)
    trained = fit(recipe, prepare(recipe, dataset, parts.train, parts.validation), device=torch.device("cpu"))
    assert trained.history[-1]["val_loss"] < trained.history[0]["val_loss"]


@pytest.mark.parametrize("kind", [*ModelSpec.variants(), *Optimizer.variants(), *Step.variants()])
def test_everything_is_described(kind: str) -> None:
    assert f"`{kind}" in TEXT


@pytest.mark.parametrize(
    "example", re.findall(r"^\| `((?:sgd|adam|adamw|gradientDescent|mlp|cnn|linear): \{.*?\})` \|", TEXT, re.M)
)
def test_one_line_examples(example: str) -> None:
    value = yaml.safe_load("{" + example + "}")
    (name,) = value
    (Optimizer if name in Optimizer.variants() else ModelSpec).model_validate(value)


def test_the_custom_module_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    (tmp_path / "my_models.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    (spec,) = [block["model"] for block in BLOCKS if "custom" in block.get("model", {})]
    assert build(ModelSpec.model_validate(spec), (3, 8, 8), 10)(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
