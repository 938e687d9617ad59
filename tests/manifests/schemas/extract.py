"""Makes kubernetes.json and compose.json from the packages that publish them: see README.md."""

import json
import sys
from pathlib import Path
from typing import Any
from zipfile import ZipFile

HERE = Path(__file__).resolve().parent
VERSION = "v1.36.0"
KINDS = {
    "v1/ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "v1/Namespace": "io.k8s.api.core.v1.Namespace",
    "v1/PodTemplate": "io.k8s.api.core.v1.PodTemplate",  # what KubeRay makes pods of
    "v1/Service": "io.k8s.api.core.v1.Service",
    "v1/ServiceAccount": "io.k8s.api.core.v1.ServiceAccount",
    "apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment",
    "apps/v1/StatefulSet": "io.k8s.api.apps.v1.StatefulSet",
    "networking.k8s.io/v1/NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
}


def main(kubernetes: Path, compose: Path) -> None:
    published = ZipFile(kubernetes).read(
        f"kubernetes_validate/kubernetes-json-schema/{VERSION}-local-strict/_definitions.json"
    )
    every = json.loads(published)["$defs"]
    _write("kubernetes.json", {"kinds": KINDS}, {name: every[name] for name in _reached(every)})
    published = ZipFile(compose).read("check_jsonschema/builtin_schemas/vendor/compose-spec.json")
    schema = json.loads(published)
    _write("compose.json", schema, schema.pop("$defs"))


def _reached(definitions: dict[str, Any]) -> list[str]:
    """The definitions that the kinds need, directly or through others."""
    found: set[str] = set()
    waiting = list(KINDS.values())
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [each.rpartition("/")[2] for each in _references(definitions[name])]
    return sorted(found)


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for value in node.values() for each in _references(value)]
    return [each for value in node for each in _references(value)] if isinstance(node, list) else []


def _bare(node: Any, *, names: bool = False) -> Any:
    """The schema without its prose; `names` where the keys are names of fields, one of which is `description`."""
    if isinstance(node, dict):
        kept = {key: value for key, value in node.items() if names or key != "description"}
        return {key: _bare(value, names=key == "properties" and not names) for key, value in kept.items()}
    return [_bare(each) for each in node] if isinstance(node, list) else node


def _write(file: str, top: dict[str, Any], definitions: dict[str, Any]) -> None:
    """One definition a line, so that a new version differs where the schema does."""
    lines = ",\n".join(f"{json.dumps(name)}: {_text(value)}" for name, value in sorted(definitions.items()))
    (HERE / file).write_text(f'{_text(top)[:-1]},\n"$defs": {{\n{lines}\n}}}}\n')


def _text(node: Any) -> str:
    return json.dumps(_bare(node), sort_keys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
