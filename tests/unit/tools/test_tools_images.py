"""What an image is made of decides whether it is built; what the node has decides what is sent."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from tools.localcluster import uv
from tools.localcluster.building import lacks_buildx
from tools.localcluster.console import Failure
from tools.localcluster.images import (
    chain_ids,
    helm_command,
    input_files,
    named_index,
    names_in,
    push,
    replaced,
    unpacked_layers,
    without_layers,
    without_twins,
)

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
    entry = json.loads(named_index(index, "localhost/modelship/gateway:1"))["manifests"][0]
    assert entry == {"digest": A, "annotations": {"io.containerd.image.name": "localhost/modelship/gateway:1"}}


def test_pip_settings_take_the_environment_last_and_leave_out_the_rest() -> None:
    listing = ":env:.default-timeout='180'\nglobal.timeout='15'\nglobal.index-url='https://packages.example'\nglobal.user='yes'\n"
    assert uv.pip_settings(listing) == {"timeout": "180", "index-url": "https://packages.example"}


def test_uv_is_told_what_pip_is_set_to() -> None:
    settings = {
        "index-url": "https://one",
        "extra-index-url": "https://two\nhttps://three",
        "find-links": "/a /b",
        "cert": "/ca.pem",
    }
    assert uv.environment(settings) == {
        "UV_DEFAULT_INDEX": "https://one",
        "UV_INDEX": "https://two https://three",
        "UV_FIND_LINKS": "/a,/b",
        "SSL_CERT_FILE": "/ca.pem",
    }
    assert uv.environment({"find-links": ""}) == {}


def test_an_older_image_stays_in_the_node_while_anything_mentions_it() -> None:
    old, used, new = (f"x/trainer:{digit * 12}" for digit in "123")
    there = {old, used, new, "x/trainer:mine", f"x/trainer-base:{'1' * 12}", "kube/etcd:1"}
    assert replaced(there, {new}, f'{{"args": ["--trainer-image={used}"]}}') == [old]


def test_an_older_name_of_a_wanted_image_stays() -> None:
    listing = json.dumps(
        {"images": [{"id": A, "repoTags": ["x/trainer:old", "x/trainer:new"]}, {"id": "b", "repoTags": ["x/front:old"]}]}
    )
    assert without_twins(["x/trainer:old", "x/front:old"], {"x/trainer:new"}, listing) == ["x/front:old"]


def test_a_build_that_fails_for_lack_of_buildx_is_told_from_others() -> None:
    assert lacks_buildx("ERROR: BuildKit is enabled but the buildx component is missing or broken.\n")
    assert not lacks_buildx("COPY failed: no such file\n")


def test_pushed_images_keep_their_tag_and_helm_is_told_all_four() -> None:
    names = {name: f"localhost/modelship/{name}:0123456789ab" for name in ("operator", "trainer", "triton", "gateway")}
    pushed = names_in("registry.example.com:5000/team", names)
    assert pushed["gateway"] == "registry.example.com:5000/team/modelship-gateway:0123456789ab"
    command = helm_command(pushed).replace("\\\n ", "")
    assert command.startswith("helm upgrade --install modelship charts/modelship --namespace modelship-system")
    assert re.findall(r"--set images\.(\w+)=(\S+)", command) == list(pushed.items())


def test_a_push_leaves_no_name_in_the_engine_whether_it_succeeds_or_not() -> None:
    there, here = "registry.example.com/team/modelship-gateway:0123456789ab", "localhost/modelship/gateway:0123456789ab"
    works, fails = FakeEngine("podman", {f"push {there}": ""}), FakeEngine("podman")
    assert push(works, {"gateway": here}, "registry.example.com/team") == {"gateway": there}
    with pytest.raises(Failure, match=r"`tools/engine login registry\.example\.com`"):
        push(fails, {"gateway": here}, "registry.example.com/team")
    assert works.asked == fails.asked == [f"tag {here} {there}", f"push {there}", f"image rm {there}"]


@pytest.mark.parametrize("registry", ["", "https://registry.example.com", "registry.example.com/", "registry.example.com/Team"])
def test_what_is_no_registry_is_said(registry: str) -> None:
    with pytest.raises(Failure, match=r"registry\.example\.com/team"):
        names_in(registry, {})


@pytest.mark.parametrize(
    "dockerfile", sorted((Path(__file__).parents[3] / "images").glob("*/Dockerfile")), ids=lambda path: path.parent.name
)
def test_each_stage_that_the_image_does_not_stand_on_is_labelled(dockerfile: Path) -> None:
    """The image itself is labelled by the build, what lies below it goes with it; other stages would stay when it goes."""
    stages = [part.splitlines() for part in re.split(r"^FROM ", dockerfile.read_text(), flags=re.M)[1:]]
    bases = {stage[0].split()[0] for stage in stages}
    for stage in stages[:-1]:
        assert stage[0].split()[-1] in bases or stage[1] == "LABEL dev.modelship=image", stage[0]
