"""The Helm chart in deploy/helm, without Helm: against the code that it starts, compose, and the runbook."""

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml

from api.errors import InvalidSettings
from api.http.auth import OPEN_PATHS
from api.http.routes import health
from api.settings import load_settings
from ropewalk.version import ROPEWALK_VERSION
from tests.helpers.deployment import AWS_VARIABLES, OTHER_VARIABLES, find_command, setting_variables
from tests.helpers.paths import ROOT

CHART = ROOT / "deploy" / "helm"
SET_BY_THE_CHART = {
    "ROPEWALK_HOME",
    "ROPEWALK_DATABASE_URL",
    "ROPEWALK_HOST",
    "ROPEWALK_PORT",
    "ROPEWALK_ROOTS",
    "ROPEWALK_ARTIFACTS",
    "RAY_ADDRESS",
    "AWS_ENDPOINT_URL",
}
# Of clients, of an extra that the images do not have, and of tests.
NOT_IN_THE_CHART = {"ROPEWALK_URL", "ROPEWALK_API_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT", "ROPEWALK_CRASH_AT"}


@pytest.fixture(scope="module")
def templates() -> str:
    return "\n".join(path.read_text() for path in sorted((CHART / "templates").glob("*.*")))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return document


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return document


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_its_versions_are_the_codes(templates: str) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == ROPEWALK_VERSION
    ray = re.findall(r"^ray==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert re.findall(r"rayVersion: (\S+)", templates) == ray


def test_the_values_follow_their_schema(values: dict[str, Any], schema: dict[str, Any]) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)


def test_every_variable_is_a_setting(templates: str) -> None:
    named = set(re.findall(r"- name: ([A-Z][A-Z_]+)$", templates, flags=re.MULTILINE))
    assert named == SET_BY_THE_CHART | OTHER_VARIABLES - set(AWS_VARIABLES), "those are in a Secret"


def test_every_setting_is_the_charts_or_a_value(schema: dict[str, Any]) -> None:
    offered = set(schema["properties"]["settings"]["properties"])
    assert offered == setting_variables() - SET_BY_THE_CHART - NOT_IN_THE_CHART


@pytest.mark.parametrize(
    ("name", "value", "is_good"),
    [
        ("ROPEWALK_RATE_LIMIT", "600/minute", True),
        ("ROPEWALK_RATE_LIMIT", "off", True),
        ("ROPEWALK_RATE_LIMIT", "many", False),
        ("ROPEWALK_KEEP_ARTIFACTS", "90d", True),
        ("ROPEWALK_KEEP_STATES", "12h", True),
        ("ROPEWALK_KEEP_SCORE_CACHE", "3 months", False),
        ("ROPEWALK_OIDC_ISSUER", "http://id.example.com", False),
        ("ROPEWALK_ROOT_PATH", "/team/ropewalk", True),
        ("ROPEWALK_ROOT_PATH", "team", False),
        ("ROPEWALK_LOG_FORMAT", "json", True),
        ("ROPEWALK_LOG_FORMAT", "xml", False),
    ],
)
def test_the_schema_has_the_settings_rules(schema: dict[str, Any], name: str, value: str, is_good: bool) -> None:
    field = name.removeprefix("ROPEWALK_").lower()
    checker = jsonschema.Draft7Validator(schema)
    assert checker.is_valid({"settings": {name: value}}) is is_good
    if is_good:
        assert getattr(load_settings(**{field: value}), field) == value
    else:
        with pytest.raises(InvalidSettings, match=name):
            load_settings(**{field: value})


def test_every_command_exists(templates: str) -> None:
    commands = [re.split(r",\s*", words) for words in re.findall(r"args: \[(.+)\]", templates)]
    assert sorted(commands) == [["controller"], ["db", "upgrade"], ["serve", "--no-controller"]]
    for command in commands:
        find_command(command)
    assert "ropewalk keys create me --scope read --scope submit" in templates
    find_command(["keys", "create", "--scope"])


def test_probes_and_scrapes_ask_for_what_is_served(templates: str) -> None:
    paths = set(re.findall(r"path: (/\w+)\b(?!/)", templates))
    assert paths == {"/healthz", "/readyz", "/metrics"}
    assert paths - {"/metrics"} <= OPEN_PATHS
    assert paths <= {route.path for route in health.router.routes if hasattr(route, "path")}


def test_rays_probes_ask_for_what_its_agent_serves_to_everybody(templates: str) -> None:
    from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS

    asked = set(re.findall(r"path: (/api/\w+), port: (\d+)", templates))
    assert {path for path, _ in asked} <= set(PUBLIC_EXACT_PATHS)
    assert {port for _, port in asked} == set(re.findall(r'dashboard-agent-listen-port: "(\d+)"', templates))


def test_ray_is_started_with_options_that_it_has(templates: str) -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    given = re.findall(r"rayStartParams:\n((?: +[\w-]+: \S+\n)+?)(?= *template:)", templates)
    names = {f"--{name}" for block in given for name in re.findall(r"([\w-]+): ", block)}
    assert len(given) == 2
    assert names <= known


def test_it_says_what_compose_says(templates: str, compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(re.findall(r'ropewalk\.image" \(list [.$] "([\w-]+)"\)', templates)) == {"server"}
    for name in ("api", "gpu-worker"):
        assert services[name]["image"].removeprefix("ropewalk/").split(":")[0] in templates
    told = dict(re.findall(r"- name: (ROPEWALK_\w+)\n\s+value: (\S+)$", templates, flags=re.MULTILINE))
    for name, value in told.items():
        assert value.strip('"') == services["api"]["environment"][name], name
    assert f"containerPort: {services['api']['environment']['ROPEWALK_PORT']}" in templates
    head = dict(word.lstrip("-").split("=") for word in services["ray-head"]["entrypoint"] if "=" in word)
    assert f"containerPort: {head['port']}" in templates
    assert f"containerPort: {head['ray-client-server-port']}" in templates
    assert f"dashboard-host: {head['dashboard-host']}" in templates


def test_there_is_no_secret_in_it(templates: str) -> None:
    assert "kind: Secret" not in templates
    for name in ("ROPEWALK_DATABASE_URL", "RAY_AUTH_TOKEN"):
        found = re.findall(rf"- name: {name}\n\s+(\w+):", templates)
        assert found
        assert set(found) == {"valueFrom"}


def test_the_runbook_names_values_that_exist(values: dict[str, Any]) -> None:
    section = (
        (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("\n## Kubernetes\n")[1].split("\n## ")[0]
    )
    named = set(re.findall(rf"`((?:{'|'.join(values)})(?:\.\w+)*)`", section))
    assert named
    for name in named:
        found: Any = values
        for part in name.split("."):
            assert part in found, name
            found = found[part]
    written = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.+?)```", section, flags=re.DOTALL)]
    for document in written:
        jsonschema.validate(document, json.loads((CHART / "values.schema.json").read_text()))
    assert written
