"""Builds our kustomizations as kustomize does, as far as they use it: what they do not use is an error here."""

from pathlib import Path
from typing import Any

import jsonpatch
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
KUBERNETES = ROOT / "infra" / "kubernetes"
OVERLAYS = ("laptop", "one-node", "cluster")
BUILDS = (*(f"overlays/{name}" for name in OVERLAYS), "one-run")

Object = dict[str, Any]
_FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "patches", "images"}
_KINDS = {("kustomize.config.k8s.io/v1beta1", "Kustomization"), ("kustomize.config.k8s.io/v1alpha1", "Component")}
_WITHOUT_NAMESPACE = {"Namespace"}


class KustomizeError(Exception):
    """What kustomize would refuse, or would silently do nothing of."""


def build(folder: Path) -> list[Object]:
    """The objects of the kustomization in `folder`, ordered by kind and name."""
    return sorted(_built(folder, []), key=lambda each: (each["kind"], each["metadata"]["name"]))


def _built(folder: Path, given: list[Object]) -> list[Object]:
    """`given`, which a component changes and adds to, and the objects of the folder's own resources."""
    asked = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if (asked["apiVersion"], asked["kind"]) not in _KINDS:
        raise KustomizeError(f"{folder}: {asked['apiVersion']} {asked['kind']} is no kustomization")
    if unknown := set(asked) - _FIELDS:
        raise KustomizeError(f"{folder}: {sorted(unknown)}: known here: {sorted(_FIELDS)}")
    objects = list(given)
    for name in asked.get("resources", ()):
        objects += _resource((folder / name).resolve())
    for name in asked.get("components", ()):
        objects = _built((folder / name).resolve(), objects)
    for patch in asked.get("patches", ()):
        objects = _patched(folder, patch, objects)
    for image in asked.get("images", ()):
        _set_image(image, objects, folder)
    if "namespace" in asked:
        for each in objects:
            if each["kind"] not in _WITHOUT_NAMESPACE:
                each["metadata"]["namespace"] = asked["namespace"]
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    if twice := {name for name in names if names.count(name) > 1}:
        raise KustomizeError(f"{folder}: {sorted(twice)} are there twice")
    return objects


def _resource(place: Path) -> list[Object]:
    if place.is_dir():
        return _built(place, [])
    if not place.is_file():
        raise KustomizeError(f"{place} is not there")
    return [_without_anchors(each) for each in yaml.safe_load_all(place.read_text()) if each]


def _without_anchors(node: Any) -> Any:
    """A copy in which what an anchor repeats is written out: a patch means one of the places."""
    if isinstance(node, dict):
        return {key: _without_anchors(value) for key, value in node.items()}
    return [_without_anchors(each) for each in node] if isinstance(node, list) else node


def _patched(folder: Path, patch: dict[str, Any], objects: list[Object]) -> list[Object]:
    if set(patch) != {"path", "target"}:
        raise KustomizeError(f"{folder}: a patch has a path and a target, not {sorted(patch)}")
    operations = yaml.safe_load((folder / patch["path"]).read_text())
    target = patch["target"]
    changed = []
    for each in objects:
        if each["kind"] == target["kind"] and each["metadata"]["name"] == target["name"]:
            changed.append(each)
    if len(changed) != 1:
        raise KustomizeError(f"{folder}: {patch['path']} is for {target}, of which there are {len(changed)}")
    return [jsonpatch.apply_patch(each, operations) if each is changed[0] else each for each in objects]


def _set_image(image: dict[str, str], objects: list[Object], folder: Path) -> None:
    found = [container for each in objects for container in containers(each) if container["image"] == image["name"]]
    if not found:
        raise KustomizeError(f"{folder}: no container has the image {image['name']}")
    digest, tag = image.get("digest"), image.get("newTag")
    for container in found:
        container["image"] = image["newName"] + (f"@{digest}" if digest else f":{tag}")


def pods(thing: Object) -> list[Object]:
    """The pod templates of an object, each with metadata and spec."""
    spec = thing.get("spec", {})
    if thing["kind"] == "RayJob":
        spec = spec["rayClusterSpec"]
    if thing["kind"] in {"RayJob", "RayCluster"}:
        return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec.get("workerGroupSpecs", ()))]
    return [spec["template"]] if "template" in spec else []


def containers(thing: Object) -> list[Object]:
    """Every container of an object, those that come first among them."""
    return [
        container
        for pod in pods(thing)
        for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
    ]
