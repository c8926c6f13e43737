"""Pages under the prefix of a real proxy, in a real browser: whatever they ask for and lead to is under it, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from search_space.candidates.baselines import baselines
from search_space.candidates.candidate import Gene
from storage.postgres.database import Database
from storage.study.record import StudyRecord
from tests.helpers.browser import CHROMIUM, Tab, browser
from tests.helpers.http_server import ROPE, RunningServer, claimed_search, finish_search, running_server
from tests.helpers.nginx import NGINX, nginx

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None or CHROMIUM is None, reason="nginx or Chromium is not installed here"),
]
# One proxy strips the prefix and names it, the other passes it on to a server that was told.
NAMING = "location /team/ropewalk/ {{ proxy_pass {url}/; proxy_set_header X-Forwarded-Prefix /team/ropewalk; }}"
PASSING = "location /lab/ {{ proxy_pass {url}; }}"
LINKS = "[...document.querySelectorAll('a[href]')].map(link => link.href)"
LOADED_PLOTS = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
BUTTONS = "[...document.querySelectorAll('button')].filter(one => one.offsetParent)"  # that are seen
WRITING = f"{BUTTONS}.some(one => /create|delete|rename/i.test(one.ariaLabel + one.innerText))"


def _searched(server: RunningServer) -> str:
    """A search with enough for every plot of the dashboard."""
    lease = claimed_search(server.jobs)
    study = StudyRecord(server.database, lease.job_id, lease)
    study.create_if_missing(model="pocket", target_length=1024, rope=ROPE)
    genes = [tuple(Gene(name=name, value=0.1 * i, low=0.0, high=1.0) for name in "ab") for i in range(8)]
    known = baselines(ROPE, 1024)
    shapes = [replace(one, genes=genes[i], origin="initial") for i, one in enumerate(known)]
    for number in study.add_candidates(0, (*known, *shapes)):
        study.start(number)
        study.finish(number, 0.1 * (number + 1))
    finish_search(server.jobs, lease)
    return lease.job_id


@pytest.fixture
def servers(database: Database) -> Iterator[tuple[RunningServer, RunningServer]]:
    """One that learns its prefix from the proxy, and one that was told."""
    with running_server(database) as learning, running_server(database, root_path="/lab") as told:
        yield learning, told


def _check_links(tab: Tab, base: str) -> None:
    """Every link of the page stays under the prefix, or leaves this machine."""
    found = tab.evaluate(LINKS)
    assert [link for link in found if not link.startswith((f"{base}/", "https://"))] == []


def _follow(tab: Tab, link: str) -> None:
    tab.wait_for(f"document.querySelector('a[href=\"{link}\"]')")
    tab.evaluate(f"document.querySelector('a[href=\"{link}\"]').click()")


def test_every_page_works_and_none_leaves_the_prefix(
    servers: tuple[RunningServer, RunningServer], tmp_path: Path
) -> None:
    learning, told = servers
    job_id = _searched(learning)
    locations = NAMING.format(url=learning.url) + PASSING.format(url=told.url)
    with (
        nginx(tmp_path, locations) as url,
        browser(tmp_path / "profile", "--window-size=600,400", "--force-prefers-reduced-motion") as tab,
    ):
        for base, server in ((f"{url}/lab", told), (f"{url}/team/ropewalk", learning)):
            prefix = base.removeprefix(url)
            tab.open(f"{base}/?token={server.token}")
            _follow(tab, f"{prefix}/jobs/{job_id}")
            tab.wait_for("document.body.innerText.includes('yarn it is')")
            _check_links(tab, base)
            _follow(tab, f"{prefix}/jobs/{job_id}/plan")
            tab.wait_for("document.querySelector('td')")
            _check_links(tab, base)
            tab.evaluate("document.querySelector('button').click()")
            tab.wait_for("location.search.includes('gpu=')")
            assert tab.evaluate("location.pathname") == f"{prefix}/jobs/{job_id}/plan"
            _follow(tab, f"{prefix}/jobs/{job_id}")
            _follow(tab, f"{prefix}/")
            tab.wait_for(f"document.querySelector('a[href=\"{prefix}/docs\"]')")
            _check_links(tab, base)
        _follow(tab, f"{prefix}/docs")
        _ask_in_the_documentation(tab, f"{base}/healthz")
        tab.open(f"{base}/dashboard")
        tab.wait_for("document.querySelector('[aria-label=\"delete study\"]')")
        assert not tab.evaluate(WRITING), "buttons that would be refused"
        _follow(tab, f"{prefix}/dashboard/studies/1")
        _see_the_plots(tab, base)
        assert all(f"{base}/{path}" in tab.asked for path in ("openapi.json", "api/studies", "favicon.ico"))
        beside = [one for one in tab.asked if not one.startswith((f"{url}/lab/", f"{url}/team/ropewalk/", "data:"))]
    assert beside == []
    assert tab.complaints == []
    assert {status for *_, status in tab.answers} <= {200, 303, 304}


def _see_the_plots(tab: Tab, base: str) -> None:
    """Of a study's first page; and another, by a click. Those with WebGL cost a machine without a GPU minutes."""
    tab.wait_for(f"{LOADED_PLOTS} > 2 && document.body.innerText.includes('Best Trial')")
    _check_links(tab, base)
    _follow(tab, f"{base[base.index('/', 8) :]}/dashboard/studies/1/trials")
    tab.wait_for("document.body.innerText.includes('16 Trials')")
    _check_links(tab, base)


def _ask_in_the_documentation(tab: Tab, address: str) -> None:
    """Its button asks the server where the proxy shows it."""
    operation = "[...document.querySelectorAll('.opblock')].find(one => one.innerText.includes('/healthz'))"
    tab.wait_for(operation)
    for button in (".opblock-summary-control", ".try-out__btn", ".execute"):
        tab.wait_for(f"({operation}).querySelector('{button}')")
        tab.evaluate(f"({operation}).querySelector('{button}').click()")
    tab.wait_for(f"({operation}).querySelector('.live-responses-table')")
    assert address in tab.asked
