"""What an image is made of decides whether it is built; what the node has decides what is sent."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from tools.localcluster.building import pip_settings
from tools.localcluster.console import Failure
from tools.localcluster.images import chain_ids, input_files, named_index, replaced, unpacked_layers, without_layers

pytestmark = pytest.mark.unit

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_input_files_are_what_the_dockerfile_copies_from_the_repository(tmp_path: Path) -> None:
    put(tmp_path, "pyproject.toml", "code/a.py", "code/b/c.py", "code/__pycache__/a.pyc", "other/d.py", "bin/run")
    dockerfile = (
        "FROM x AS libraries\nCOPY pyproject.toml \\\n     code/a.py /build/\nCOPY --chmod=0755 bin/ /bin/\n"
        "FROM x\nCOPY --from=libraries /opt /opt\nCOPY code/ /code/\n"
    )
    found = [str(path.relative_to(tmp_path)) for path in input_files(tmp_path, dockerfile)]
    assert found == ["bin/run", "code/a.py", "code/b/c.py", "pyproject.toml"]


def test_a_copied_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"copies code/a\.py"):
        input_files(tmp_path, "COPY code/a.py /\n")


def test_chain_ids_follow_the_image_specification() -> None:
    second = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {C}".encode()).hexdigest()
    assert chain_ids([A, B, C]) == [A, second, third]


def test_a_layer_is_known_only_on_top_of_the_same_layers() -> None:
    assert unpacked_layers([A, B, C], set(chain_ids([A, B]))) == {A, B}
    assert unpacked_layers([B, A], set(chain_ids([A, B]))) == set()


def test_docker_s_archive_loses_the_known_layers_and_nothing_else() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in [("index.json", b"{}"), (f"blobs/sha256/{'a' * 64}", b"big"), (f"blobs/sha256/{'b' * 64}", b"small")]:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    archive.seek(0)
    sent = io.BytesIO()
    assert without_layers(archive, {A}, sent) == len(b"{}small")
    sent.seek(0)
    with tarfile.open(fileobj=sent) as tar:
        assert tar.getnames() == ["index.json", f"blobs/sha256/{'b' * 64}"]


def test_the_index_carries_the_full_name() -> None:
    index = json.dumps({"manifests": [{"digest": A, "annotations": {"org.opencontainers.image.ref.name": "x"}}]})
    entry = json.loads(named_index(index, "localhost/modelship/front:1"))["manifests"][0]
    assert entry == {"digest": A, "annotations": {"io.containerd.image.name": "localhost/modelship/front:1"}}


def test_pip_settings_take_the_environment_last_and_leave_out_the_rest() -> None:
    listing = ":env:.timeout='180'\nglobal.timeout='15'\nglobal.index-url='https://packages.example'\nglobal.cert='/x'\n"
    assert pip_settings(listing) == {"timeout": "180", "index-url": "https://packages.example"}


def test_an_older_image_stays_in_the_node_while_anything_mentions_it() -> None:
    old, used, new = (f"x/trainer:{digit * 12}" for digit in "123")
    there = {old, used, new, "x/trainer:mine", f"x/trainer-base:{'1' * 12}", "kube/etcd:1"}
    assert replaced(there, {new}, f'{{"args": ["--trainer-image={used}"]}}') == [old]
