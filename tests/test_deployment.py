"""docker-compose.yml and the Dockerfile against the compose schema and against the code that they start."""

import json
import re
from importlib import resources
from typing import Any

import jsonschema
import pytest
import yaml

from api.settings import Settings
from tests.helpers.deployment import OTHER_VARIABLES, find_command, setting_variables
from tests.helpers.paths import ROOT

RAY_START_OPTIONS = {"--head", "--block", "--port", "--ray-client-server-port", "--dashboard-host"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def _services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = compose["services"]
    return services


def test_it_follows_the_compose_schema(compose: dict[str, Any]) -> None:
    schema = json.loads(
        (resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json").read_text()
    )
    jsonschema.validate(compose, schema)


def test_an_upgrade_makes_the_tables_before_the_api_starts(compose: dict[str, Any]) -> None:
    """As the runbook says of `docker compose up`."""
    services = _services(compose)
    assert services["migrate"]["command"] == ["db", "upgrade"]
    assert services["api"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["image"] == services["api"]["image"]


def test_the_schema_check_can_fail(compose: dict[str, Any]) -> None:
    schema = json.loads(
        (resources.files("check_jsonschema.builtin_schemas") / "vendor" / "compose-spec.json").read_text()
    )
    broken = {**compose, "services": {"api": {"image": 7, "unknown_option": True}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def test_it_has_the_parts_of_the_cluster(compose: dict[str, Any]) -> None:
    assert {"postgres", "migrate", "api", "ray-head", "gpu-worker"} == set(_services(compose))
    assert _services(compose)["gpu-worker"]["profiles"] == ["gpu"]


def test_every_build_target_exists(compose: dict[str, Any], dockerfile: str) -> None:
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, flags=re.MULTILINE))
    used = {service["build"]["target"] for service in _services(compose).values() if "build" in service}
    assert used == targets


def test_every_ropewalk_command_exists(compose: dict[str, Any], dockerfile: str) -> None:
    assert set(re.findall(r"^ENTRYPOINT (.+)$", dockerfile, flags=re.MULTILINE)) == {'["ropewalk"]'}
    commands = [service["command"] for service in _services(compose).values() if "command" in service]
    commands += [json.loads(command) for command in re.findall(r"^CMD (.+)$", dockerfile, flags=re.MULTILINE)]
    assert commands
    for command in commands:
        find_command(command)


def test_a_command_that_does_not_exist_is_noticed() -> None:
    with pytest.raises(KeyError):
        find_command(["serve-everything"])
    with pytest.raises(AssertionError, match="--everything"):
        find_command(["serve", "--everything"])


def test_ray_is_started_with_options_that_it_has(compose: dict[str, Any]) -> None:
    words = _services(compose)["ray-head"]["entrypoint"]
    assert words[:2] == ["ray", "start"]
    assert {word.split("=")[0] for word in words[2:]} == RAY_START_OPTIONS
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    assert known >= RAY_START_OPTIONS


def test_every_variable_is_a_setting(compose: dict[str, Any]) -> None:
    for name, service in _services(compose).items():
        if name != "postgres":
            assert set(service["environment"]) <= setting_variables() | OTHER_VARIABLES, name


def test_workers_hold_no_database_credentials(compose: dict[str, Any]) -> None:
    for name in ("ray-head", "gpu-worker"):
        assert "PASSWORD" not in json.dumps(_services(compose)[name])
        assert "DATABASE" not in json.dumps(_services(compose)[name])


def test_ports_agree(compose: dict[str, Any], dockerfile: str) -> None:
    services = _services(compose)
    port = services["api"]["environment"]["ROPEWALK_PORT"]
    assert services["api"]["ports"] == [f"${{ROPEWALK_PORT:-{Settings.model_fields['port'].default}}}:{port}"]
    assert f"127.0.0.1:{port}/readyz" in json.dumps(services["api"]["healthcheck"])
    assert re.findall(r"^EXPOSE (\d+)$", dockerfile, flags=re.MULTILINE) == [port]
    head = services["ray-head"]["entrypoint"]
    assert services["gpu-worker"]["environment"]["RAY_ADDRESS"] == "ray-head:" + _option(head, "--port")
    client_port = _option(head, "--ray-client-server-port")
    assert services["api"]["environment"]["RAY_ADDRESS"] == f"ray://ray-head:{client_port}"


def _option(words: list[str], name: str) -> str:
    return next(word.removeprefix(f"{name}=") for word in words if word.startswith(f"{name}="))


def test_volumes_are_declared_and_long_running_services_have_health_checks(compose: dict[str, Any]) -> None:
    services = _services(compose)
    named = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service["volumes"]
        if not volume.startswith(("$", ".", "/"))
    }
    assert named == set(compose["volumes"])
    assert all("healthcheck" in service for name, service in services.items() if name != "migrate")


def test_there_is_no_secret_in_the_file(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for value in re.findall(r"PASSWORD: (.+)|:([^@\s/]+)@", text):
        assert "".join(value).startswith("${POSTGRES_PASSWORD:?")
    for value in re.findall(r"TOKEN: (.+)", text):
        assert value.startswith("${RAY_AUTH_TOKEN:?")
    example = (ROOT / ".env.example").read_text()
    assert "POSTGRES_PASSWORD=\n" in example
    assert "RAY_AUTH_TOKEN=\n" in example


def test_what_the_dockerfile_copies_exists(dockerfile: str) -> None:
    for line in re.findall(r"^COPY (.+)$", dockerfile, flags=re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists(), source
