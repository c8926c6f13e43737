"""The pictures of a search over REST, in the dashboard, and as PNG files from the command line."""

import dataclasses
import json
from pathlib import Path

import pytest

from api.cli import run
from ropewalk.client.errors import ApiError
from ropewalk.factors.factor_file import SearchSummary
from ropewalk.wire.kinds import JobState
from service.pictures.plots import draw_dashboard
from service.pictures.reading import PictureReader
from storage.records import Lease, Progress
from tests.helpers.http_server import RunningServer, claimed_search, factor_file
from tests.helpers.stored_searches import MadeSearch, make_search, store

PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def finish(server: RunningServer, lease: Lease, made: MadeSearch) -> None:
    """Let the search succeed with its best bred candidate."""
    best = made.best_bred
    summary = SearchSummary(id=lease.job_id, trial=best.number, nll=best.nll or 0.0, documents=8, document_passes=200)
    file = dataclasses.replace(factor_file(), search=summary)
    server.jobs.transition(lease, JobState.validating)
    result = {"statement": "it is", "verdict": "beats_best_baseline", "factors": json.loads(file.to_json())}
    server.jobs.transition(lease, JobState.succeeded, result_json=json.dumps(result), progress=Progress(stage="done"))


@pytest.fixture
def made() -> MadeSearch:
    return make_search(bred=20, documents=8, raced=True)


def test_pictures_of_a_search_before_its_first_trial(server: RunningServer) -> None:
    search_id = server.jobs.create("search", json.dumps({"model": "pocket", "target_length": 1024})).job.id
    with server.client() as client:
        pictures = client.pictures(search_id)
    assert (pictures.search_id, pictures.model, pictures.target_length) == (search_id, "pocket", 1024)
    assert (pictures.original_length, pictures.decided, pictures.needles) == (None, False, None)
    assert (pictures.race.lines, pictures.factors.baselines) == ((), ())


def test_pictures_of_a_search_in_progress_and_of_its_end(server: RunningServer, made: MadeSearch) -> None:
    lease = claimed_search(server.jobs)
    store(made, server.database, lease)
    with server.client() as client:
        before = client.pictures(lease.job_id)
        finish(server, lease, made)
        after = client.pictures(lease.job_id)
    assert (before.decided, before.needles) == (False, None)
    assert before.original_length == 256
    assert after.decided
    assert after.needles is not None
    assert after.factors.leader is not None
    assert after.factors.leader.factors == made.best_bred.candidate.scaling.factors.values
    assert after.best_so_far.document_passes == sum(len(scores) for scores in made.search.values())
    assert after.best_so_far.tokens == 1024 * after.best_so_far.document_passes
    assert after.best_so_far.best.trials[-1] == made.best_bred.number
    assert after.race.candidates == len(made.trials)
    assert PictureReader(server.database, lease.job_id).read() == after, "nothing is lost on the wire"


def test_what_the_route_refuses(server: RunningServer) -> None:
    evaluation = server.jobs.create("evaluation", "{}").job.id
    with server.client() as client, pytest.raises(ApiError) as unknown:
        client.pictures("srch_01jd8x6t4n0000000000000000")
    assert (unknown.value.status, unknown.value.code) == (404, "JOB_NOT_FOUND")
    with server.http as http:
        assert http.get(f"/v1/searches/{evaluation}/pictures").status_code == 404


def test_reading_needs_a_key_that_may_read(server: RunningServer) -> None:
    search_id = server.jobs.create("search", json.dumps({"model": "pocket", "target_length": 1024})).job.id
    reader, worker = server.keys.create("ann", ["read"]), server.keys.create("bob", ["worker"])
    with server.client(reader) as client:
        assert client.pictures(search_id).search_id == search_id
    for key, status in (("", 401), (worker, 403)):
        with server.client(key) as client, pytest.raises(ApiError) as refused:
            client.pictures(search_id)
        assert refused.value.status == status


def test_the_route_is_documented(quiet_server: RunningServer) -> None:
    with quiet_server.http as http:
        document = http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    line = schemas["RaceLine"]["properties"]
    assert line["nll"]["description"] == "Mean over those documents."
    assert "passes" in schemas["TrialPoints"]["properties"]["passes"]["description"].lower()
    answer = document["paths"]["/v1/searches/{search_id}/pictures"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/SearchPictures"}


def test_the_dashboard_serves_the_figures(server: RunningServer, made: MadeSearch) -> None:
    lease = claimed_search(server.jobs)
    study = store(made, server.database, lease)
    assert draw_dashboard(study, PictureReader(server.database, lease.job_id), winner=made.best_bred.number)
    with server.http as http:
        (summary,) = http.get("/api/studies").json()["study_summaries"]
        graphs = http.get(f"/api/studies/{summary['study_id']}").json()["plotly_graph_objects"]
    figures = {graph["id"]: json.loads(graph["graph_object"]) for graph in graphs}
    assert set(figures) == {f"ropewalk-{name}" for name in ("factors", "best-so-far", "race", "needles")}
    assert all(figure["data"] for figure in figures.values())


# -- command line ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _settings(server: RunningServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROPEWALK_URL", server.url)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_settings")
def test_plot_writes_png_files(
    server: RunningServer, made: MadeSearch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = claimed_search(server.jobs)
    store(made, server.database, lease)
    assert run(["plot", lease.job_id, "-o", "early"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"early/{name}.png" for name in ("factors", "best-so-far", "race")]
    assert "needles.png" in told.err
    finish(server, lease, made)
    assert run(["plot", lease.job_id, "-o", str(tmp_path / "out" / "deep"), "--json"]) == 0
    told = capsys.readouterr()
    paths = json.loads(told.out)["paths"]
    assert list(paths) == ["factors", "best-so-far", "race", "needles"]
    assert told.err == ""
    for name, path in paths.items():
        assert Path(path) == tmp_path / "out" / "deep" / f"{name}.png"
        assert Path(path).read_bytes().startswith(PNG_HEAD)


@pytest.mark.usefixtures("_settings")
def test_plot_of_a_search_without_trials(server: RunningServer, capsys: pytest.CaptureFixture[str]) -> None:
    search_id = server.jobs.create("search", json.dumps({"model": "pocket", "target_length": 1024})).job.id
    assert run(["plot", search_id]) == 0
    assert capsys.readouterr().out.splitlines() == ["factors.png", "best-so-far.png", "race.png"]


@pytest.mark.usefixtures("_settings")
def test_plot_tells_what_is_wrong_on_one_line(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    search_id = server.jobs.create("search", json.dumps({"model": "pocket", "target_length": 1024})).job.id
    (tmp_path / "file").write_text("")
    for arguments, code, said in (
        ([search_id, "-o", "file"], 2, "must be writable, but file is not"),
        (["srch_01jd8x6t4n0000000000000000"], 1, "srch_01jd8x6t4n0000000000000000"),
        (["nonsense"], 2, "nonsense"),
    ):
        assert run(["plot", *arguments]) == code
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
