"""Alerts and dashboard in deploy/: they ask for what `/metrics` serves, and the runbook explains them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ropewalk.wire.kinds import JobState
from storage.records import Condition
from tests.helpers.http_server import RunningServer, claimed_search
from tests.helpers.paths import ROOT

DEPLOY = ROOT / "deploy"
# What a query has beside metrics: functions, operators and words of PromQL.
WORDS = {
    *("sum", "max", "rate", "increase", "delta", "absent", "by", "and", "on"),
    *("kind", "source", "state", "reason", "code", "part", "outcome", "stage", "version"),
}


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DEPLOY / "dashboard.json").read_text())
    return document


def queries() -> list[str]:
    targets = [target for panel in dashboard()["panels"] for target in panel.get("targets", ())]
    return [rule["expr"] for rule in rules()] + [target["expr"] for target in targets]


def metrics_of(query: str) -> Iterator[tuple[str, set[str], dict[str, str]]]:
    """Each metric with the labels that it is grouped by, and those that it is chosen by with their values."""
    grouped = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", query) for name in names.split(",")}
    for name, chosen in re.findall(r"\b(ropewalk_\w+)(?:\{([^}]*)\})?", query):
        yield name, grouped, dict(re.findall(r'(\w+)[=!~]+"([^"]*)"', chosen))


@pytest.fixture(scope="module")
def served(quiet_server: RunningServer) -> Mapping[str, Mapping[str, set[str]]]:
    """By the name of a sample: its labels with their values, of a server to which everything has happened."""
    jobs = quiet_server.jobs
    jobs.append_event(lease := claimed_search(jobs), "trial.failed", "{}")
    why = Condition(type="WorkersReady", status=False, reason="WorkerLost", message="gone")
    jobs.put_back(lease, why, failures=1, retry_in=0.0)
    failing = jobs.claim("another", 60)
    assert failing is not None
    jobs.transition(failing[1], JobState.failed, error_code="FAILURE_BUDGET_SPENT", error_message="too many")
    with quiet_server.http as http:
        text = http.get("/metrics").text
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


@pytest.mark.parametrize("query", queries())
def test_every_query_asks_for_what_is_served(query: str, served: Mapping[str, Mapping[str, set[str]]]) -> None:
    asked = list(metrics_of(query))
    assert asked, query
    for name, grouped, chosen in asked:
        assert name in served, f"{name} is not served"
        if len(asked) == 1:
            assert grouped <= set(served[name]), f"{name} has no {grouped - set(served[name])}"
        for label, values in chosen.items():
            assert set(values.split("|")) <= served[name][label], f"{name} has no {label}={values}"
    words = set(re.findall(r"[a-z_]+\b(?![\"=!~])", re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\d+e\d+', "", query)))
    assert {word for word in words if not word.startswith("ropewalk_")} <= WORDS


def test_what_is_not_served_is_seen(served: Mapping[str, Mapping[str, set[str]]]) -> None:
    for query in ("ropewalk_wishes_total", 'ropewalk_jobs{state="done"}', "max by (colour) (ropewalk_jobs)"):
        with pytest.raises((AssertionError, KeyError)):
            test_every_query_asks_for_what_is_served(query, served)


def test_everything_that_is_served_is_on_the_dashboard(served: Mapping[str, object]) -> None:
    shown = {name for query in queries() for name, _, _ in metrics_of(query)}
    assert {name for name in served if name.startswith("ropewalk_")} - shown == set()


def test_the_runbook_says_what_each_alert_means() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("### Alerts\n")[1].split("\n### ")[0]
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == names
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules())


def test_the_dashboard_is_one_that_grafana_takes() -> None:
    """Every panel has an id, a place of its own, and the data source that is chosen when it is imported."""
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        for target in panel.get("targets", ()):
            assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool, which comes with Prometheus, is not installed")
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", DEPLOY / "alerts.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
