"""Every manifest fits the schema of what reads it, and our builder makes what kustomize makes."""

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.kustomize import BUILDS, KUBERNETES, KustomizeError, Object, build
from tests.manifests.schemas import compose_misfits, misfits


def test_every_object_fits_the_schema_of_its_kind(objects: list[Object]):
    assert [f"{each['kind']} {each['metadata']['name']}: {text}" for each in objects for text in misfits(each)] == []


def test_compose_fits_its_specification(compose: dict[str, Any]):
    assert list(compose_misfits(compose)) == []


@pytest.mark.parametrize("name", BUILDS)
def test_our_builder_makes_what_kustomize_makes(name: str):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which has kustomize in it, is not on this machine")
    made = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES / name)], capture_output=True, text=True, check=True, timeout=60
    )
    theirs = sorted(yaml.safe_load_all(made.stdout), key=lambda each: (each["kind"], each["metadata"]["name"]))
    assert build(KUBERNETES / name) == theirs


def test_every_file_is_part_of_a_build():
    named = set()
    for file in KUBERNETES.rglob("kustomization.yaml"):
        asked = yaml.safe_load(file.read_text())
        for name in (*asked.get("resources", ()), *(patch["path"] for patch in asked.get("patches", ()))):
            named.add((file.parent / name).resolve())
    written = {file for file in KUBERNETES.rglob("*.yaml") if file.name != "kustomization.yaml"}
    assert written - named == set()


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("RayCluster", ("spec", "authOption"), {}),
        ("RayCluster", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("RayCluster", ("spec", "headGroupSpec", "template", "spec", "containers", 0, "envFrom", 0, "configMap"), {}),
        ("Deployment", ("spec", "replicas"), "one"),
        ("NetworkPolicy", ("spec", "ingres"), []),
        ("Service", ("spec", "ports", 0, "port"), "http"),
    ],
)
def test_a_slip_of_the_pen_is_seen(kind: str, path: tuple[str | int, ...], value: Any):
    broken = copy.deepcopy(next(each for each in build(KUBERNETES / "overlays" / "laptop") if each["kind"] == kind))
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    assert list(misfits(broken)) == []
    place[path[-1]] = value
    assert list(misfits(broken)) != []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("resources", ["missing.yaml"]),
        ("patches", [{"path": "change.yaml", "target": {"kind": "Deployment", "name": "perfect-server"}}]),
        ("images", [{"name": "orchid", "newName": "orchard", "newTag": "cpu"}]),
        ("patchesJson6902", []),
    ],
)
def test_a_kustomization_that_names_what_is_not_there_is_refused(tmp_path: Path, field: str, value: Any):
    asked = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    asked |= {"resources": [str(KUBERNETES / "base")]}
    (tmp_path / "change.yaml").write_text("[]")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(asked))
    assert build(tmp_path)
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(asked | {field: value}))
    with pytest.raises(KustomizeError):
        build(tmp_path)
