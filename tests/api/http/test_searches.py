"""The life of a search over HTTP, through the typed client."""

import json
import random
from pathlib import Path

import pytest

from evaluation.documents import splitting
from ropewalk.client.errors import ApiError
from ropewalk.factors.factor_file import FactorFile
from ropewalk.wire.kinds import KINDS, JobState
from storage.records import Condition, Progress
from tests.helpers.http_server import POCKET_SPEC, RunningServer, add_trials, claimed_search, factor_file, finish_search


def test_a_search_is_accepted_as_its_own_operation(server: RunningServer) -> None:
    with server.http as http:
        response = http.post("/v1/searches", json={**POCKET_SPEC, "labels": {"team": "nlp"}})
        assert response.status_code == 202
        job = response.json()
        assert response.headers["location"] == f"/v1/searches/{job['id']}"
        assert int(response.headers["retry-after"]) > 0
        assert "idempotent-replayed" not in response.headers
        assert http.get(response.headers["location"]).json() == job
    assert job["id"].startswith("srch_")
    assert (job["kind"], job["state"], job["request"]) == ("search", "queued", "none")
    assert job["labels"] == {"team": "nlp"}
    assert job["spec"]["budget"]["max_trials"] == 1344, "the stored spec has every default filled in"
    assert job["created_at"].endswith("Z")


def test_a_spec_can_be_checked_without_submitting(server: RunningServer) -> None:
    with server.http as http:
        response = http.post("/v1/searches?validate_only=true", json={**POCKET_SPEC, "budget": {"max_trials": 20}})
        assert response.status_code == 200
        assert http.get("/v1/searches").json()["items"] == []
    estimate = response.json()
    assert (estimate["candidates"], estimate["baselines"]) == (20, 10)  # two of them at their own attention factor, too
    assert (20 + 10) * 4 <= estimate["document_passes"] <= (20 + 10) * 24
    assert estimate["tokens"] == POCKET_SPEC["target_length"] * estimate["document_passes"]
    assert estimate["validation_tokens"] == POCKET_SPEC["target_length"] * estimate["validation_document_passes"]
    assert estimate["spec"]["seed"] == 0
    with server.client() as client:
        assert client.validate(POCKET_SPEC).document_passes > 0


def test_an_original_length_below_the_models_is_told_from_the_submission_on(server: RunningServer) -> None:
    spec = {**POCKET_SPEC, "original_length": 64, "target_length": 128}
    with server.http as http:
        estimate = http.post("/v1/searches?validate_only=true", json=spec).json()
        job = http.post("/v1/searches", json=spec).json()
        (plain,) = (http.post("/v1/searches", json=POCKET_SPEC).json()["warnings"],)
        (warning,) = job["warnings"]
        assert warning.startswith("original_length 64 is below the 256 tokens that the model is published for")
        assert "exports state a context of 128 tokens, fewer than those 256" in warning
        assert estimate["warnings"] == http.get(f"/v1/searches/{job['id']}").json()["warnings"] == [warning]
        told = http.get(f"/v1/searches/{job['id']}/events").json()["items"]
    assert [one["data"] for one in told if one["type"] == "model.warning"] == [{"text": warning}]
    assert plain == []


def test_a_long_corpus_is_not_divided_while_the_client_waits(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "split_lines", lambda text: pytest.fail("in the request"))
    words = random.Random(0).choices([f"w{number}" for number in range(50_000)], k=400_000)
    (tmp_path / "long.txt").write_text(" ".join(words))
    path = str(tmp_path / "long.txt")
    with server.http as http:
        spec = {**POCKET_SPEC, "objective": {"corpus": path}}
        assert http.post("/v1/searches", json=spec).status_code == 202
        evaluation = {"model": "pocket", "target_length": 1024, "corpus": path, "documents": 4}
        assert http.post("/v1/evaluations", json=evaluation).status_code == 202
        monkeypatch.undo()
        monkeypatch.setenv("ROPEWALK_HOME", str(server.home))
        refused = http.post("/v1/searches", json={**spec, "target_length": 4_000_000})
    assert refused.json()["code"] == "CORPUS_TOO_SHORT", "what may be too short is looked at whole"


def test_the_corpus_that_is_meant_is_written_into_the_spec(server: RunningServer) -> None:
    with server.http as http:
        short = http.post("/v1/searches", json=POCKET_SPEC).json()["spec"]
        long = http.post("/v1/searches", json={**POCKET_SPEC, "target_length": 131_072}).json()["spec"]
        evaluation = {"model": "pocket", "target_length": 1024, "lengths": [16_384]}
        evaluated = http.post("/v1/evaluations", json=evaluation).json()["spec"]
    assert short["objective"]["corpus"] is None, "as it was always stored"
    assert long["objective"]["corpus"] == evaluated["corpus"] == "builtin:stdlib"


def test_lists_are_paged_newest_first(server: RunningServer) -> None:
    ids = [server.jobs.create("search", "{}").job.id for _ in range(5)]
    with server.client() as client:
        first = client.jobs(limit=2)
        second = client.jobs(limit=2, page_token=first.next_page_token)
        third = client.jobs(limit=2, page_token=second.next_page_token)
        assert [job.id for page in (first, second, third) for job in page.items] == ids[::-1]
        assert third.next_page_token is None
        with pytest.raises(ApiError) as refused:
            client.jobs(state=JobState.failed, page_token=first.next_page_token)
    assert (refused.value.status, refused.value.code) == (400, "INVALID_PAGE_TOKEN")


def test_page_size_has_a_default_and_a_cap(server: RunningServer) -> None:
    for _ in range(205):
        server.jobs.create("search", "{}")
    with server.client() as client:
        assert len(client.jobs().items) == 20
        assert len(client.jobs(limit=100_000).items) == 200


def test_lists_are_filtered(server: RunningServer) -> None:
    ours = server.jobs.create("search", "{}", [("team", "nlp")]).job.id
    cancelled = server.jobs.create("search", "{}", [("team", "vision")]).job.id
    server.jobs.request(cancelled, "cancel")
    other_kind = server.jobs.create("evaluation", "{}", [("team", "nlp")]).job.id
    with server.client() as client:
        assert [job.id for job in client.jobs(label="team=nlp").items] == [ours]
        assert [job.id for job in client.jobs(state=JobState.cancelled).items] == [cancelled]
        assert [job.id for job in client.jobs("evaluation").items] == [other_kind]
        assert client.jobs("finetune").items == []


def test_actions_follow_the_state_machine(server: RunningServer) -> None:
    job_id = server.jobs.create("search", "{}").job.id
    with server.client() as client:
        assert client.pause(job_id).state == "paused"
        assert client.pause(job_id).state == "paused", "doing it twice is doing it once"
        assert client.resume(job_id).state == "queued"
        assert client.cancel(job_id).state == "cancelled"
        assert client.cancel(job_id).state == "cancelled"
        with pytest.raises(ApiError) as refused:
            client.resume(job_id)
    assert (refused.value.status, refused.value.code) == (409, "INVALID_TRANSITION")
    assert "cancelled" in refused.value.detail


def test_an_active_search_is_asked_to_stop(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    with server.client() as client:
        assert client.pause(lease.job_id).request == "pause"
        assert client.cancel(lease.job_id).state == "cancelling"


def test_an_evaluation_can_be_cancelled_but_not_paused(server: RunningServer) -> None:
    job_id = server.jobs.create("evaluation", "{}").job.id
    with server.client() as client:
        with pytest.raises(ApiError) as refused:
            client.pause(job_id)
        assert refused.value.status in (404, 405)
        assert client.cancel(job_id).state == "cancelled"
        assert client.get(job_id).kind == "evaluation"


def test_an_id_of_another_kind_is_not_found(server: RunningServer) -> None:
    job_id = server.jobs.create("evaluation", "{}").job.id
    with server.http as http:
        for row in KINDS.values():
            if row.name != "evaluation":
                assert http.get(f"/v1/{row.collection}/{job_id}").status_code == 404


def test_progress_and_failure_are_shown(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    progress = Progress(
        stage="searching",
        generation=2,
        trials=9,
        document_passes=216,
        tokens=110_592,
        best_nll=0.25,
        best_trial=3,
        seconds_left=61.5,
    )
    server.jobs.update_progress(lease, progress)
    with server.client() as client:
        shown = client.get(lease.job_id).progress
        assert (shown.generation, shown.trials, shown.best_nll, shown.best_trial) == (2, 9, 0.25, 3)
        assert (shown.document_passes, shown.tokens, shown.seconds_left) == (216, 110_592, 61.5)
        server.jobs.transition(lease, JobState.failed, error_code="WORKER_LOST", error_message="the last one died")
        failed = client.get(lease.job_id)
    assert failed.is_final
    assert failed.progress.seconds_left is None, "nothing goes on"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("WORKER_LOST", "the last one died")


def test_conditions_say_why_a_search_waits(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    why = Condition(type="Progressing", status=False, reason="WorkerLost", message="tried again in 60 s: it died")
    server.jobs.put_back(lease, why, failures=2, retry_in=60)
    with server.client() as client:
        shown = client.get(lease.job_id)
    (condition,) = shown.conditions
    assert (condition.type, condition.status, condition.reason) == ("Progressing", False, "WorkerLost")
    assert condition.message == why.message
    assert condition.last_transition_time is not None
    assert (shown.state, shown.failures, shown.retry_at is not None) == ("searching", 2, True)


def test_trials_by_number(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    with server.client() as client:
        assert client.trial_page(lease.job_id).items == []
        count = add_trials(server.database, lease, scored=3)
        first = client.trial_page(lease.job_id, limit=3)
        assert [trial.number for trial in first.items] == [0, 1, 2]
        assert [trial.nll for trial in first.items] == pytest.approx([0.1, 0.2, 0.3])
        assert first.items[0].factors is None, "factors only with view=full"
        assert first.items[0].origin == "baseline:none"
        assert first.next_after == 2
        numbers = [trial.number for trial in client.trials(lease.job_id)]
        assert numbers == list(range(count))
        full = client.trial_page(lease.job_id, after=count - 2, full=True)
    assert full.next_after is None
    assert full.items[0].factors is not None
    assert len(full.items[0].factors) == 16
    assert full.items[0].state == "waiting"


def test_document_scores(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    add_trials(server.database, lease, scored=2)
    with server.client() as client:
        scores = client.scores(lease.job_id).items
        assert [(score.trial, score.document_id) for score in scores] == [
            (trial, f"validation-0-1024-{index:05d}") for trial in (0, 1) for index in (0, 1)
        ]
        assert [score.trial for score in client.scores(lease.job_id, trial=1).items] == [1, 1]
        assert client.scores(lease.job_id, split="search").items == []
        with pytest.raises(ApiError) as refused:
            client.scores(lease.job_id, split="train")
    assert refused.value.status == 422
    with server.http as http:
        first = http.get(f"/v1/searches/{lease.job_id}/scores?limit=3").json()
        assert first["next_after"] == "1:validation-0-1024-00000"
        rest = http.get(f"/v1/searches/{lease.job_id}/scores", params={"after": first["next_after"]}).json()
        assert ([item["trial"] for item in rest["items"]], rest["next_after"]) == ([1], None)
        assert http.get(f"/v1/searches/{lease.job_id}/scores?after=one").status_code == 422


def test_factors_in_every_format(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    with server.client() as client:
        with pytest.raises(ApiError) as early:
            client.export(lease.job_id)
        assert (early.value.status, early.value.code) == (409, "FACTORS_NOT_READY")
        finish_search(server.jobs, lease)
        assert FactorFile.from_json(client.export(lease.job_id)) == factor_file()
        assert json.loads(client.export(lease.job_id, format="hf"))
        assert json.loads(client.export(lease.job_id, format="vllm"))
        assert client.export(lease.job_id, format="csv").count("\n") >= 16
        with pytest.raises(ApiError) as unknown:
            client.export(lease.job_id, format="stone-tablet")
    assert unknown.value.status == 422
    with server.http as http:
        response = http.get(f"/v1/searches/{lease.job_id}/factors?format=csv")
    assert response.headers["content-type"].startswith("text/csv")


def test_a_finetune_and_an_evaluation_of_a_finished_search(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    finish_search(server.jobs, lease)
    with server.client() as client:
        finetune = client.submit_finetune({"search_id": lease.job_id, "settings": {"steps": 3}})
        evaluation = client.submit_evaluation({"search_id": lease.job_id, "model": None, "documents": 4})
        alone = client.submit_evaluation({"factors": json.loads(factor_file().to_json()), "documents": 4})
    assert (finetune.kind, finetune.state) == ("finetune", "queued")
    assert finetune.spec["search_id"] == lease.job_id
    assert (evaluation.kind, alone.kind) == ("evaluation", "evaluation")


def test_a_finetune_of_a_search_without_factors_is_refused(server: RunningServer) -> None:
    lease = claimed_search(server.jobs)
    with server.client() as client, pytest.raises(ApiError) as refused:
        client.submit_finetune({"search_id": lease.job_id})
    assert (refused.value.status, refused.value.code) == (409, "FACTORS_NOT_READY")
