"""The chart in deploy/helm as the real Helm lints and renders it; `scripts/install-helm` brings what this needs.

Kubernetes' own schemas come with kubernetes-validate, which pip installs and which does what kubeconform would, which
no package has: every document and pod is validated, and unknown fields are faults.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.paths import ROOT

CHART = ROOT / "deploy" / "helm"
HELM = shutil.which("helm") or shutil.which("helm", path=str(Path(sys.executable).parent))
OF_OPERATORS = {"RayCluster", "Cluster", "ServiceMonitor"}
EVERYTHING = """
image: {registry: registry.example.com/team, tag: "1", pullSecrets: [pull]}
database: {cloudnativepg: {enabled: true, storageClass: fast}, ownerSecret: {name: owner}}
ray:
  pools:
    - {name: h100, replicas: 2, gpus: 1, cpus: 8, memory: 64Gi, nodeSelector: {gpu: h100}, runtimeClassName: nvidia,
       tolerations: [{key: nvidia.com/gpu, operator: Exists}]}
    - {name: cpu, replicas: 0, cpus: 4, memory: 16Gi}
home: {storageClass: shared}
models: {existingClaim: models}
artifacts: {url: 's3://files/team', endpoint: 'http://minio:9000', secret: bucket, serviceAccount: ropewalk}
settings: {ROPEWALK_KEEP_ARTIFACTS: 90d}
networkPolicy: {apiFrom: [{podSelector: {matchLabels: {app: proxy}}}]}
serviceMonitor: {enabled: true, keySecret: {name: scrape}, labels: {release: prometheus}}
"""
OWN_CLUSTER = "{ray: {enabled: false, address: 'ray://head:10001'}}"
NOTHING_MORE = "{podDisruptionBudget: {enabled: false}, networkPolicy: {enabled: false}, home: {existingClaim: mine}}"
WAYS = {"defaults": "{}", "everything": EVERYTHING, "own cluster": OWN_CLUSTER, "nothing more": NOTHING_MORE}
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is not installed: scripts/install-helm brings it")
pytestmark = needs_helm


def _helm(*arguments: str, values: str = "{}") -> subprocess.CompletedProcess[str]:
    assert HELM is not None
    return subprocess.run(
        [HELM, *arguments, "--values", "-"], input=values, capture_output=True, text=True, timeout=120, check=False
    )


def _render(values: str) -> list[dict[str, Any]]:
    done = _helm("template", "ropewalk", str(CHART), values=values)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


@pytest.fixture(scope="module", params=WAYS)
def rendered(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return _render(WAYS[request.param])


@pytest.fixture(scope="module")
def everything() -> list[dict[str, Any]]:
    return _render(EVERYTHING)


def _named(documents: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    return next(one for one in documents if (one["kind"], one["metadata"]["name"]) == (kind, name))


def _pods(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The templates of all pods."""
    found = [one["spec"]["template"] for one in documents if one["kind"] == "Deployment"]
    for cluster in (one["spec"] for one in documents if one["kind"] == "RayCluster"):
        groups = [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]
        found += [group["template"] for group in groups]
    return found


def _environment(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value") or one["valueFrom"]["secretKeyRef"] for one in container["env"]}


@pytest.mark.parametrize("way", WAYS)
def test_helm_finds_no_fault(way: str) -> None:
    done = _helm("lint", "--strict", str(CHART), values=WAYS[way])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("{api: {replicas: 0}}", "at '/api/replicas': minimum: got 0, want 1"),
        ("{controllers: {replicas: 2}}", "additional properties 'controllers' not allowed"),
        ("{settings: {ROPEWALK_SPEED: fast}}", "at '/settings': additional properties 'ROPEWALK_SPEED' not allowed"),
        ("{settings: {ROPEWALK_KEEP_STATES: soon}}", "at '/settings/ROPEWALK_KEEP_STATES': 'soon' does not match"),
        ("{ray: {enabled: false}}", "at '/ray/address': minLength: got 0, want 1"),
        ("{ray: {address: 'ray://head:10001'}}", "at '/ray/address': maxLength: got 16, want 0"),
        ("{ray: {pools: [{name: a, replicas: 1, cpus: 1}]}}", "at '/ray/pools/0': missing property 'memory'"),
        (
            "{ray: {pools: [{name: A, replicas: 1, cpus: 1, memory: 1Gi}]}}",
            "at '/ray/pools/0/name': 'A' does not match",
        ),
        ("{serviceMonitor: {enabled: true}}", "at '/serviceMonitor/keySecret/name': '' does not match"),
        ("{home: {size: big}}", "at '/home/size': 'big' does not match"),
    ],
)
def test_a_bad_value_is_one_clear_line(values: str, told: str) -> None:
    done = _helm("lint", str(CHART), values=values)
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if line.startswith("[ERROR] values.yaml: ")]
    assert len(lines) == 1
    assert told in lines[0]


def test_a_release_with_a_name_too_long_is_refused() -> None:
    done = _helm("template", "a-name-that-is-too-long-for-services", str(CHART))
    assert done.returncode != 0
    assert "must have at most 32 characters" in done.stderr


def test_kubernetes_takes_it(rendered: list[dict[str, Any]]) -> None:
    """Oldest and newest version that there are schemas of; the kinds of operators are theirs."""
    schemas = pytest.importorskip("kubernetes_validate", reason="scripts/install-helm brings Kubernetes' schemas")
    for document in rendered:
        if document["kind"] not in OF_OPERATORS:
            schemas.validate(document, "1.27", strict=True)
            schemas.validate(document, "1.37", strict=True)
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered]
    assert len(set(names)) == len(names)


def test_kubernetes_takes_the_pods_of_operators(rendered: list[dict[str, Any]]) -> None:
    """No package has the schemas of RayCluster, Cluster and ServiceMonitor; a RayCluster is pods for the most part."""
    schemas = pytest.importorskip("kubernetes_validate", reason="scripts/install-helm brings Kubernetes' schemas")
    for pod in _pods(rendered):
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": pod}
        schemas.validate(template, "1.27", strict=True)
        schemas.validate(template, "1.37", strict=True)


def test_the_schemas_find_a_fault() -> None:
    schemas = pytest.importorskip("kubernetes_validate", reason="scripts/install-helm brings Kubernetes' schemas")
    service = _named(_render("{}"), "Service", "ropewalk")
    with pytest.raises(schemas.ValidationError):
        schemas.validate({**service, "spec": {**service["spec"], "portals": []}}, "1.37", strict=True)
    template = {"apiVersion": "v1", "kind": "PodTemplate", "template": {"spec": {"containers": [{"nam": "a"}]}}}
    with pytest.raises(schemas.ValidationError):
        schemas.validate(template, "1.37", strict=True)


def test_every_selector_finds_pods(rendered: list[dict[str, Any]]) -> None:
    labels = [set(pod["metadata"]["labels"].items()) for pod in _pods(rendered)]
    if any(one["kind"] == "RayCluster" for one in rendered):
        labels.append(
            labels[0] - {("app.kubernetes.io/component", "api")} | {("app.kubernetes.io/component", "ray-worker")}
        )
    for one in rendered:
        spec = one["spec"]
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "NetworkPolicy": lambda spec: spec["podSelector"]["matchLabels"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
        }.get(one["kind"])
        if selector is not None:
            assert any(set(selector(spec).items()) <= pod for pod in labels), one["metadata"]["name"]


def test_every_pod_has_no_more_than_it_needs(rendered: list[dict[str, Any]]) -> None:
    for pod in _pods(rendered):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False  # they would set ROPEWALK_PORT to an address
        assert spec["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in (*spec.get("initContainers", []), *spec["containers"]):
            assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["resources"]["limits"]["memory"]


def test_pods_of_ray_hold_no_database_credentials(everything: list[dict[str, Any]]) -> None:
    cluster = _named(everything, "RayCluster", "ropewalk-ray")
    assert "DATABASE" not in str(cluster)
    assert "ropewalk-db" not in str(cluster)


def test_pools_are_workers_of_the_image_that_they_need(everything: list[dict[str, Any]]) -> None:
    pools = _named(everything, "RayCluster", "ropewalk-ray")["spec"]["workerGroupSpecs"]
    containers = [pool["template"]["spec"]["containers"][0] for pool in pools]
    assert [one["image"] for one in containers] == [
        "registry.example.com/team/ropewalk/gpu-worker:1",
        "registry.example.com/team/ropewalk/server:1",
    ]
    assert [one["resources"]["limits"].get("nvidia.com/gpu") for one in containers] == [1, None]
    assert [(pool["replicas"], pool["minReplicas"]) for pool in pools] == [(2, 2), (0, 0)]


def test_controllers_find_the_ray_of_the_chart_or_the_one_named(everything: list[dict[str, Any]]) -> None:
    cluster = _named(everything, "RayCluster", "ropewalk-ray")
    controller = _named(everything, "Deployment", "ropewalk-controller")["spec"]["template"]["spec"]["containers"][0]
    port = cluster["spec"]["headGroupSpec"]["rayStartParams"]["ray-client-server-port"]
    assert _environment(controller)["RAY_ADDRESS"] == f"ray://{cluster['metadata']['name']}-head-svc:{port}"
    theirs = _render(OWN_CLUSTER)
    assert not [one for one in theirs if one["kind"] == "RayCluster"]
    controller = _named(theirs, "Deployment", "ropewalk-controller")["spec"]["template"]["spec"]["containers"][0]
    assert _environment(controller)["RAY_ADDRESS"] == "ray://head:10001"


@pytest.mark.parametrize("name", ["ropewalk-api", "ropewalk-controller"])
def test_the_owner_makes_the_tables_and_the_service_uses_them(everything: list[dict[str, Any]], name: str) -> None:
    pod = _named(everything, "Deployment", name)["spec"]["template"]["spec"]
    assert _environment(pod["initContainers"][0])["ROPEWALK_DATABASE_URL"] == {"name": "owner", "key": "uri"}
    assert _environment(pod["containers"][0])["ROPEWALK_DATABASE_URL"] == {"name": "ropewalk-db-app", "key": "uri"}
    plain = _named(_render("{}"), "Deployment", name)["spec"]["template"]["spec"]
    for container in (plain["initContainers"][0], plain["containers"][0]):
        assert _environment(container)["ROPEWALK_DATABASE_URL"] == {"name": "ropewalk-database", "key": "uri"}
