"""What the parts of a cluster ask of each other is there, and none may do more than it has to."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra import clusters
from tests.manifests.kustomize import KUBERNETES, OVERLAYS, Object, build, containers, pods

SECRETS = {  # documented in docs/deploy-to-a-cluster.md, where a person makes them
    "orchard-postgres": {"password"},
    "orchard-prefect": {"auth-string"},
    "orchard-ray": {"auth_token"},
    "orchard-s3": {"access-key", "secret-key"},
    "orchard-registry": {"key", "known_hosts"},
}


def _pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    for each in objects:
        for index, pod in enumerate(pods(each)):
            yield f"{each['kind']} {each['metadata']['name']} {index}", pod


def _named(objects: list[Object], kind: str) -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def _labels(pod: Object, kind: str = "", index: int = 0) -> dict[str, str]:
    """The labels of a pod, with the one that KubeRay gives it."""
    ray = {"ray.io/node-type": "worker" if index else "head"} if kind.startswith("Ray") else {}
    return pod["metadata"]["labels"] | ray


def _find(node: Any, key: str) -> Iterator[Any]:
    """Every value of this key, however deep."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _find(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _find(value, key)


def test_a_pod_has_no_token_of_kubernetes_and_no_root(objects: list[Object]):
    accounts = _named(objects, "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    for name, pod in _pods(objects):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["serviceAccountName"] in accounts, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all("hostPath" not in volume for volume in spec.get("volumes", ())), name


def test_a_container_can_gain_no_right_and_change_no_program(objects: list[Object]):
    for each in objects:
        for container in containers(each):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, container["name"]
            assert context["readOnlyRootFilesystem"] is True, container["name"]
            assert context["capabilities"] == {"drop": ["ALL"]}, container["name"]
            assert "memory" in container["resources"]["limits"], container["name"]


def test_accounts_have_no_roles(objects: list[Object]):
    kinds = {each["kind"] for each in objects}
    assert kinds.isdisjoint({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})


def test_nothing_is_open_to_the_outside(objects: list[Object]):
    for name, service in _named(objects, "Service").items():
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP", name
    assert list(_find([each for each in objects if each["kind"] != "NetworkPolicy"], "hostPort")) == []
    for name, policy in _named(objects, "NetworkPolicy").items():
        sources = [peer for rule in policy["spec"].get("ingress", ()) for peer in rule["from"]]
        assert all("ipBlock" not in peer and peer for peer in sources), name


def test_secrets_are_named_and_not_written(objects: list[Object]):
    assert _named(objects, "Secret") == {}
    asked = {(each["name"], each["key"]) for each in _find(objects, "secretKeyRef")}
    for volume in _find(objects, "secret"):
        asked |= {(volume["secretName"], item["key"]) for item in volume["items"]}
    asked |= {(options["secretName"], "auth_token") for options in _find(objects, "authOptions")}
    known = {(name, key) for name, keys in SECRETS.items() for key in keys}
    assert asked <= known
    for each in objects:
        for container in containers(each):
            for variable in container.get("env", ()):
                if re.search("PASSWORD$|SECRET|AUTH_STRING|TOKEN$|KEY_ID", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], variable


def test_every_secret_is_made_in_the_docs(objects: list[Object]):
    page = (KUBERNETES.parent.parent / "docs" / "deploy-to-a-cluster.md").read_text()
    for name, keys in SECRETS.items():
        command = re.search(rf"kubectl -n orchard create secret generic {name} (.*?)\n(?!  )", page, re.DOTALL)
        assert command, name
        assert set(re.findall(r"--from-(?:literal|file)=([\w-]+)=", command[1])) == keys


def test_what_a_pod_refers_to_is_there(objects: list[Object]):
    maps, services = _named(objects, "ConfigMap"), _named(objects, "Service")
    for name, pod in _pods(objects):
        assert {each["name"] for each in _find(pod, "configMapRef")} <= set(maps), name
    for each in objects:
        for pod in pods(each):
            claimed = [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())]
            volumes = [*claimed, *(volume["name"] for volume in pod["spec"].get("volumes", ()))]
            mounted = {mount["name"] for mounts in _find(pod, "volumeMounts") for mount in mounts}
            assert mounted == set(volumes), each["metadata"]["name"]
            if "selector" in each["spec"]:
                assert each["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        if each["kind"] == "StatefulSet":
            assert each["spec"]["serviceName"] in services


def test_services_and_probes_meet_a_port_of_a_container(objects: list[Object]):
    for name, service in _named(objects, "Service").items():
        selector = service["spec"]["selector"]
        chosen = [pod for _, pod in _pods(objects) if selector.items() <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1, name
        ports = {port["name"]: port["containerPort"] for ports in _find(chosen[0], "ports") for port in ports}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"], name
    for each in objects:
        for container in containers(each):
            ports = {port["name"] for port in container.get("ports", ())}
            asked = [probe["port"] for kind in ("httpGet", "tcpSocket") for probe in _find(container, kind)]
            assert set(asked) <= ports, container["name"]


def _listeners(objects: list[Object]) -> dict[str, tuple[dict[str, str], set[int]]]:
    """Every name that a service listens under: the labels of its pod, and the ports."""
    found = {}
    for name, service in _named(objects, "Service").items():
        found[name] = service["spec"]["selector"], {port["port"] for port in service["spec"]["ports"]}
    for each in objects:
        spec = each["spec"]["rayClusterSpec"] if each["kind"] == "RayJob" else each.get("spec", {})
        if "headGroupSpec" in spec:
            head = spec["headGroupSpec"]
            ports = {port["containerPort"] for ports in _find(head["template"], "ports") for port in ports}
            found[head["headService"]["metadata"]["name"]] = _labels(head["template"], "Ray"), ports
    return found


def _environment(objects: list[Object], container: Object) -> dict[str, str]:
    maps = _named(objects, "ConfigMap")
    found = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}


_ADDRESS = re.compile(r"(?:https?://|@|--address=)([a-z][a-z0-9-]*):(\d+)")


def test_an_address_is_that_of_a_service_and_the_policies_let_it_through(objects: list[Object]):
    listeners, policies = _listeners(objects), list(_named(objects, "NetworkPolicy").values())
    met = set()
    for each in objects:
        for index, pod in enumerate(pods(each)):
            labels = _labels(pod, each["kind"], index)
            for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
                used = [*_environment(objects, container).values(), *_find(container, "command")]
                for host, port in _ADDRESS.findall(str(used)):
                    if host == "localhost":  # a browser's, at the near end of a port-forward
                        continue
                    target, ports = listeners[host]
                    assert int(port) in ports, f"{container['name']}: {host}:{port}"
                    assert _allowed(policies, "Egress", labels, target, int(port)), f"{labels} -> {host}:{port}"
                    assert _allowed(policies, "Ingress", target, labels, int(port)), f"{labels} -> {host}:{port}"
                    met.add((container["name"], host))
    assert {("prefect-worker", "prefect-server"), ("prefect-worker", "ray-head"), ("deploy", "prefect-server")} <= met
    assert ("prefect-server", "postgres") in met


def test_the_policies_keep_apart_what_has_no_business(objects: list[Object]):
    policies = list(_named(objects, "NetworkPolicy").values())
    name = "app.kubernetes.io/name"
    head, worker = {name: "ray", "ray.io/node-type": "head"}, {name: "ray", "ray.io/node-type": "worker"}
    for source, target, port in [
        ({name: "ray"}, {name: "postgres"}, 5432),
        ({name: "prefect-worker"}, {name: "postgres"}, 5432),
        (head, {name: "prefect-server"}, 4200),  # jobs ask Prefect nothing
        ({name: "prefect-server"}, head, 8265),
        ({name: "prefect-worker"}, head, 6379),
        ({name: "prefect-worker"}, worker, 52365),
        ({"app": "a stranger"}, head, 8265),
    ]:
        assert not _allowed(policies, "Ingress", target, source, port), f"{source} -> {target}:{port}"
    assert not _allowed(policies, "Egress", {"app": "a stranger"}, {name: "postgres"}, 5432)
    assert not _allowed(policies, "Ingress", {"app": "a stranger"}, head, 80)
    assert _allowed(policies, "Ingress", worker, head, 10234)  # what Ray's nodes say to each other


def _allowed(policies: list[Object], way: str, own: dict[str, str], other: dict[str, str], port: int) -> bool:
    """Whether a pod with the labels `own` may receive from, or send to, one in its namespace with `other`."""
    rules, chosen = [], False
    for policy in policies:
        spec = policy["spec"]
        if way in spec["policyTypes"] and _matches(spec["podSelector"], own):
            chosen = True
            rules += spec.get(way.lower(), ())
    if not chosen:
        return True
    return any(
        any("namespaceSelector" not in peer and _matches(peer.get("podSelector"), other) for peer in peers)
        and ("ports" not in rule or port in [each["port"] for each in rule["ports"]])
        for rule in rules
        for peers in [rule["from" if way == "Ingress" else "to"]]
    )


def _matches(selector: Object | None, labels: dict[str, str]) -> bool:
    if selector is None:
        return False
    said = [labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", ())]
    return all(said) and selector.get("matchLabels", {}).items() <= labels.items()


def test_ray_asks_for_a_token_and_trains_nothing_on_its_head(objects: list[Object]):
    found = [each["spec"].get("rayClusterSpec", each["spec"]) for each in objects if each["kind"].startswith("Ray")]
    assert found
    for spec in found:
        assert spec["authOptions"] == {"mode": "token", "secretName": "orchard-ray"}
        assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        for group in spec["workerGroupSpecs"]:
            pod = group["template"]["spec"]
            drain = " ".join(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"])
            deadline = int(re.findall(r"--deadline-remaining-seconds=(\d+)", drain)[0])
            waits = int(re.findall(r"timeout (\d+)", drain)[0])
            assert deadline < waits < pod["terminationGracePeriodSeconds"]


def test_a_ray_job_ends_by_itself(objects: list[Object]):
    for job in (each["spec"] for each in objects if each["kind"] == "RayJob"):
        assert 0 < job["preRunningDeadlineSeconds"] < job["activeDeadlineSeconds"]
        assert job["shutdownAfterJobFinishes"] is True  # without it KubeRay ignores the next one
        assert job["ttlSecondsAfterFinished"] > 0
        assert job["backoffLimit"] > 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_serves_the_queues_of_the_clusters_that_its_ray_can_hold(overlay: str):
    objects = build(KUBERNETES / "overlays" / overlay)
    worker = _named(objects, "StatefulSet")["prefect-worker"]["spec"]["template"]["spec"]["containers"][0]
    words = worker["args"]
    served = {words[index + 1] for index, word in enumerate(words) if word == "--work-queue"}
    [group] = _named(objects, "RayCluster")["ray"]["spec"]["workerGroupSpecs"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    holds = {
        name
        for name, cluster in ((name, clusters.named(name)) for name in clusters.names())
        if _slots(limits, cluster) * group["replicas"] >= cluster.workers
    }
    assert served == holds | {"default"}


def _slots(limits: dict[str, str], cluster: clusters.Cluster) -> int:
    """How many of the cluster's workers a node with these limits takes."""
    by_cpu = int(limits["cpu"]) // cluster.cpus_per_worker
    if not cluster.gpus_per_worker:
        return by_cpu
    return min(by_cpu, int(limits.get("nvidia.com/gpu", 0)) // cluster.gpus_per_worker)
