import pytest
from evaluation_artifacts import RECIPES, Built, build_artifact

from modelship_trainer.recipe import Recipe


@pytest.fixture(scope="session")
def classifier(tmp_path_factory) -> Built:
    return build_artifact(tmp_path_factory.mktemp("wine") / "artifact", Recipe.model_validate(RECIPES["classification"]))


@pytest.fixture(scope="session")
def regressor(tmp_path_factory) -> Built:
    return build_artifact(tmp_path_factory.mktemp("diabetes") / "artifact", Recipe.model_validate(RECIPES["regression"]))
