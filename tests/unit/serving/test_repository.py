"""The init step of serving: what it refuses, what it writes, and how it explains itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modelship_trainer.artifact.manifest import (
    MANIFEST,
    ArtifactError,
    ArtifactNotFound,
    DigestMismatch,
    Lineage,
    build_manifest,
)
from modelship_trainer.protocol import ExitCode
from modelship_trainer.schema import digest_of
from modelship_trainer.serving import repository
from modelship_trainer.serving.options import Batching, Device, GraphOptimization, Optimization
from modelship_trainer.serving.repository import Serving, publish, render_config
from modelship_trainer.serving.signature import Signature

pytestmark = pytest.mark.unit
GOLDEN = Path(__file__).parent / "golden"

TABULAR = {
    "task": "classification",
    "inputs": [{"name": "numbers", "dtype": "FP32", "shape": [-1, 2]}, {"name": "texts", "dtype": "BYTES", "shape": [-1, 1]}],
    "columns": [
        {"name": "age", "dtype": "FP32", "missing": True},
        {"name": 'plan "b" \\ é', "dtype": "BYTES", "missing": True},
        {"name": "income", "dtype": "FP32", "missing": False, "above": -1},
    ],
    "outputs": [
        {"name": "probabilities", "dtype": "FP32", "shape": [-1, 2]},
        {"name": "label", "dtype": "BYTES", "shape": [-1]},
    ],
    "classes": ["no", "yes"],
}
FIRST = {
    **TABULAR,
    "schemaVersion": 1,
    "inputs": [
        {"name": "age", "dtype": "FP32", "shape": [-1, 1]},
        {"name": 'plan "b" \\ é', "dtype": "BYTES", "shape": [-1, 1]},
    ],
    "columns": None,
}
"""Of artifacts made before version 2."""
IMAGE = {
    "task": "classification",
    "inputs": [{"name": "input", "dtype": "UINT8", "shape": [-1, 8, 8, 3]}],
    "outputs": [
        {"name": "probabilities", "dtype": "FP32", "shape": [-1, 10]},
        {"name": "label", "dtype": "INT64", "shape": [-1]},
    ],
    "classes": list(range(10)),
}
REGRESSION = {
    "task": "regression",
    "inputs": [{"name": "bmi", "dtype": "FP32", "shape": [-1, 1]}],
    "outputs": [{"name": "prediction", "dtype": "FP32", "shape": [-1, 1]}],
}
FILES = {
    "model.onnx": b"graph",
    "model.safetensors": b"weights",
    "preprocessing.json": b"{}",
    "recipe.json": b"{}",
    "metrics.json": b"{}",
    "signature.json": json.dumps(TABULAR).encode(),
    "sample.json": b'{"inputs":[]}',
}


def write_artifact(folder: Path, files: dict[str, bytes]) -> str:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    manifest = build_manifest(folder, Lineage(recipe_digest="r", data_digest="d", trainer="tests"))
    (folder / MANIFEST).write_bytes(manifest.to_bytes())
    return manifest.digest()


@pytest.fixture
def artifact(tmp_path: Path) -> tuple[Path, str]:
    return tmp_path / "artifact", write_artifact(tmp_path / "artifact", FILES)


@pytest.mark.parametrize(
    ("name", "signature", "serving"),
    [
        ("tabular", TABULAR, Serving()),
        ("tabular-version-1", FIRST, Serving()),
        ("image-gpu", IMAGE, Serving(Batching(max_batch_size=128), Optimization(instances=2), Device.GPU)),
        (
            "regression-unbatched",
            REGRESSION,
            Serving(Batching(max_batch_size=0), Optimization(graph=GraphOptimization.BASIC, threads=4)),
        ),
        ("regression-static", REGRESSION, Serving(Batching(dynamic=False), Optimization(graph=GraphOptimization.NONE))),
    ],
)
def test_config_is_the_golden_one(name: str, signature: dict[str, object], serving: Serving) -> None:
    rendered = render_config("churn", Signature.model_validate(signature), serving)
    golden = GOLDEN / f"{name}.pbtxt"
    if os.environ.get("MODELSHIP_UPDATE_GOLDEN"):
        golden.write_text(rendered, encoding="utf-8")
    assert rendered == golden.read_text(encoding="utf-8")


def test_a_fixed_first_axis_cannot_be_batched() -> None:
    fixed = {**REGRESSION, "inputs": [{"name": "bmi", "dtype": "FP32", "shape": [1, 1]}]}
    with pytest.raises(ArtifactError, match=r"\['bmi'\] have no free first axis.*maxBatchSize: 0"):
        render_config("m", Signature.model_validate(fixed), Serving())


def test_publish_leaves_exactly_the_model(artifact: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = artifact
    publish(folder, digest, "churn", tmp_path / "models", Serving())
    found = {path.relative_to(tmp_path / "models").as_posix() for path in (tmp_path / "models").rglob("*") if path.is_file()}
    assert found == {f"churn/{name}" for name in ("config.pbtxt", "sample.json", "signature.json", "serving.json", "1/model.onnx")}
    assert (tmp_path / "models/churn/1/model.onnx").read_bytes() == FILES["model.onnx"]
    assert (tmp_path / "models/churn/signature.json").read_bytes() == FILES["signature.json"]
    assert json.loads((tmp_path / "models/churn/serving.json").read_text()) == {"maxBatchSize": 64}


def test_external_weights_stay_beside_the_graph(tmp_path: Path) -> None:
    digest = write_artifact(tmp_path / "a", {**FILES, "model.onnx.data": b"weights"})
    model = publish(tmp_path / "a", digest, "churn", tmp_path / "models", Serving())
    assert (model / "1" / "model.onnx.data").read_bytes() == b"weights"


def flip(name: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return tamper


def same_bytes_through_a_link(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def extra_folder_link(folder: Path) -> None:
    (folder / "more").symlink_to("/etc", target_is_directory=True)


TAMPERINGS = [
    *[(f"one bit of {name}", name, flip(name)) for name in [*FILES, MANIFEST]],
    *[(f"{name} missing", name, lambda folder, name=name: (folder / name).unlink()) for name in FILES],
    ("a byte more", "model.onnx", lambda folder: (folder / "model.onnx").write_bytes(FILES["model.onnx"] + b"\0")),
    ("emptied", "model.onnx", lambda folder: (folder / "model.onnx").write_bytes(b"")),
    ("truncated manifest", MANIFEST, lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:-1])),
    ("extra file", "model.onnx.data", lambda folder: (folder / "model.onnx.data").write_bytes(b"evil")),
    ("hidden extra file", ".x", lambda folder: (folder / ".x").write_bytes(b"evil")),
    ("a link to the same bytes", "model.onnx", same_bytes_through_a_link),
    ("a link to a folder", "more", extra_folder_link),
]


@pytest.mark.parametrize(("file", "tamper"), [row[1:] for row in TAMPERINGS], ids=[row[0] for row in TAMPERINGS])
def test_tampering_is_refused_and_leaves_nothing(
    file: str, tamper: Callable[[Path], None], artifact: tuple[Path, str], tmp_path: Path
) -> None:
    folder, digest = artifact
    publish(folder, digest, "churn", tmp_path / "models", Serving())  # of an earlier life of the pod: goes too
    tamper(folder)
    with pytest.raises(DigestMismatch) as refused:
        publish(folder, digest, "churn", tmp_path / "models", Serving())
    assert refused.value.file == file
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/etc/passwd", "a//b", ".hidden", "model.onnx\n"])
def test_a_manifest_that_climbs_is_refused(path: str, artifact: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = artifact
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][0]["path"] = path
    (folder / MANIFEST).write_text(json.dumps(manifest))
    digest = digest_of((folder / MANIFEST).read_bytes())
    with pytest.raises(ArtifactError, match="relative path"):
        publish(folder, digest, "churn", tmp_path / "models", Serving())
    assert list((tmp_path / "models").iterdir()) == []


def test_source_that_changes_while_it_is_copied_is_refused(
    artifact: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, digest = artifact
    read = repository.read_manifest

    def read_then_change(*arguments: object) -> object:
        manifest = read(*arguments)  # type: ignore[arg-type]
        flip("model.onnx")(folder)
        return manifest

    monkeypatch.setattr(repository, "read_manifest", read_then_change)
    with pytest.raises(DigestMismatch):
        publish(folder, digest, "churn", tmp_path / "models", Serving())


def test_nothing_large_is_copied_before_it_is_refused(
    artifact: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write the claim must not fill the node's disk, nor the init step's memory, with other things than the artifact."""
    folder, digest = artifact
    monkeypatch.setattr(repository, "copy_folder", lambda *_, **__: pytest.fail("copied"))
    (folder / "huge").touch()
    os.truncate(folder / "huge", 1 << 40)
    with pytest.raises(DigestMismatch, match="huge is an extra file"):
        publish(folder, digest, "churn", tmp_path / "models", Serving())
    (folder / "huge").rename(folder / "model.onnx")
    with pytest.raises(DigestMismatch, match=r"model\.onnx is 1,099,511,627,776 bytes, recorded was \d+ bytes"):
        publish(folder, digest, "churn", tmp_path / "models", Serving())
    os.truncate(folder / MANIFEST, 1 << 40)
    with pytest.raises(ArtifactError, match="larger than 1,048,576 bytes"):
        publish(folder, digest, "churn", tmp_path / "models", Serving())


def test_a_pipe_in_place_of_the_manifest_does_not_hang(artifact: tuple[Path, str], tmp_path: Path) -> None:
    folder, digest = artifact
    (folder / MANIFEST).unlink()
    os.mkfifo(folder / MANIFEST)
    with pytest.raises(ArtifactNotFound):
        publish(folder, digest, "churn", tmp_path / "models", Serving())


@pytest.mark.parametrize("name", ["", "Churn", "../churn", "a/b", "-a", "a" * 254])
def test_model_name_is_a_resource_name(name: str, artifact: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes resource name"):
        publish(*artifact, name, tmp_path / "models", Serving())


def run_main(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str] | None = None
) -> tuple[int, dict[str, object]]:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("MODELSHIP_TERMINATION_LOG", str(log))
    for name, value in (environment or {}).items():
        monkeypatch.setenv(name, value)
    code = repository.main([*arguments, "--model-name=churn", f"--output={tmp_path / 'models'}"])
    return code, json.loads(log.read_bytes()) if log.exists() else {}


def test_a_flipped_bit_is_explained_in_the_termination_message(
    artifact: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, digest = artifact
    flip("model.onnx")(folder)
    code, message = run_main([f"--artifact={folder}", f"--digest={digest}"], tmp_path, monkeypatch)
    assert code == ExitCode.DIGEST_MISMATCH
    assert message["reason"] == "DigestMismatch"
    assert str(message["message"]).startswith("model.onnx is sha256:")
    assert str(message["message"]).endswith("…; nothing was started.")
    assert ", evaluated was sha256:" in str(message["message"])


@pytest.mark.parametrize(
    ("uri", "environment", "code", "reason", "sentence"),
    [
        (
            "pvc://models/none",
            {},
            75,
            "StoreUnavailable",
            "artifact sha256:000000000000… is no longer at pvc://models/none; restore it or train again.",
        ),
        ("s3://bucket/a", {}, 64, "InternalError", "only pvc:// and plain paths"),
        ("pvc://models/../x", {}, 64, "InternalError", "'..' is not allowed"),
        ("pvc://models/none", {"MODELSHIP_BATCHING": '{"maxBatchSize":-1}'}, 64, "InternalError", "greater than or equal to 0"),
    ],
)
def test_other_failures_have_their_own_exit_codes(
    uri: str,
    environment: dict[str, str],
    code: int,
    reason: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = {**environment, "MODELSHIP_PVC_ROOT": str(tmp_path)}
    ended, message = run_main([f"--artifact={uri}", f"--digest=sha256:{'0' * 64}"], tmp_path, monkeypatch, environment)
    assert (ended, message["reason"]) == (code, reason)
    assert sentence in str(message["message"])


def test_verified_artifact_from_a_claim_ends_with_zero(
    artifact: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, digest = artifact
    environment = {"MODELSHIP_PVC_ROOT": str(tmp_path), "MODELSHIP_OPTIMIZATION": '{"threads":2}'}
    assert run_main(["--artifact=pvc://artifact", f"--digest={digest}"], tmp_path, monkeypatch, environment) == (0, {})
    assert 'string_value: "2"' in (tmp_path / "models/churn/config.pbtxt").read_text()


def test_init_step_needs_no_scientific_package() -> None:
    code = "import sys, modelship_trainer.serving.repository; print({'torch', 'numpy', 'onnx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
