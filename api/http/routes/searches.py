"""`/v1/searches`: submit a search, watch it, steer it, take its factors away."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Response
from pydantic import AfterValidator

from api.errors import FormatNeedsModel
from api.http import deps
from api.http.routes import common
from api.http.routes.jobs import add_job_routes
from api.wire.candidates import score_resource, trial_resource
from api.wire.jobs import estimate_resource
from api.wire.strict_json import StrictRoute
from ropewalk.factors.exports.registry import EXPORTS
from ropewalk.factors.exports.row import CSV
from ropewalk.wire.candidates import ScoreList, TrialPage
from ropewalk.wire.jobs import EXAMPLE_SEARCH_SPEC, EstimateResource, JobResource
from ropewalk.wire.pictures import SearchPictures
from service.specs.search import SearchSpec

router = APIRouter(prefix="/v1/searches", tags=["searches"], route_class=StrictRoute)

SpecBody = Annotated[
    SearchSpec,
    AfterValidator(deps.without_nul),
    Body(
        openapi_examples={
            "pocket": {"summary": "the pocket model, four times its length", "value": EXAMPLE_SEARCH_SPEC},
            "smallest": {"summary": "defaults only", "value": {"model": "pocket", "target_length": 1024}},
            "finetune": {
                "summary": "search, then fine-tune with the winner",
                "value": {"model": "pocket", "target_length": 1024, "finetune": {"steps": 60}},
            },
        }
    ),
]
NOTE_HEADER = "Ropewalk-Note"
SCORE_KEY = r"^[0-9]{1,9}:.+$"
"""A trial number and a document id, as `next_after` of a page of scores."""


def _known_format(name: str) -> str:
    if name not in EXPORTS:
        raise ValueError(f"format must be one of {', '.join(EXPORTS)}, but got {name!r}")
    return name


def _list_formats(schema: dict[str, Any]) -> None:
    """When a schema is made and not before: installed packages add formats."""
    schema |= {"enum": list(EXPORTS), "description": f"{EXPORTS.described()}. gguf is made by the command line only"}


FactorFormat = Annotated[str, AfterValidator(_known_format), Query(json_schema_extra=_list_formats)]


@router.post(
    "",
    status_code=202,
    operation_id="create_search",
    response_model=JobResource,
    responses={
        200: {"model": EstimateResource, "description": "validate_only: the spec is valid"},
        **common.CREATE_RESPONSES,
    },
)
def create_search(
    spec: SpecBody,
    door: deps.TheDoor,
    submission: common.TheSubmission,
    validate_only: Annotated[
        bool, Query(description="check the spec and estimate its cost without submitting it")
    ] = False,
) -> JobResource | Response:
    """Submit a search. Everything that can be wrong with the spec is refused here, before the job exists."""
    submission.check(spec)
    if validate_only:
        estimate = estimate_resource(door.submissions.validate_search(spec))
        return Response(estimate.model_dump_json(), media_type="application/json")
    return submission.accept(spec, door.submissions.submit_search)


add_job_routes(
    router,
    "search",
    page="Searches, newest first, without their specs and results.",
    one="One search: state, progress, and at the end its result.",
    actions={
        "cancel": "End the search. Its controller obeys within one document; until then the state is `cancelling`.",
        "pause": "Pause the search; what was scored is kept.",
        "resume": "Continue a paused search, on any controller.",
    },
    events="The search's history, as JSON or as a stream of server-sent events.",
)


@router.get("/{search_id}/trials", operation_id="list_trials", responses=common.problems(404))
def list_trials(
    search_id: str,
    door: deps.TheDoor,
    limit: deps.Limit,
    after: Annotated[deps.TrialNumber, Query(description="only trials with a greater number")] = None,
    view: Annotated[Literal["compact", "full"], Query(description="full adds the factors")] = "compact",
) -> TrialPage:
    """The search's candidates by number."""
    trials = door.trials(search_id, after=after, limit=limit + 1)
    items = [trial_resource(trial, full=view == "full") for trial in trials[:limit]]
    return TrialPage(items=items, next_after=items[-1].number if len(trials) > limit else None)


@router.get("/{search_id}/scores", operation_id="list_scores", responses=common.problems(404))
def list_scores(
    search_id: str,
    door: deps.TheDoor,
    limit: deps.Limit,
    split: Annotated[Literal["search", "validation"], Query(description="which documents")] = "validation",
    trial: Annotated[deps.TrialNumber, Query(description="only this trial's")] = None,
    after: Annotated[
        str | None, Query(description="next_after of the previous page", pattern=SCORE_KEY, max_length=1000)
    ] = None,
) -> ScoreList:
    """Document scores: one candidate on one document each, by trial and document."""
    number, _, document = (after or "").partition(":")
    key = (int(number), document) if after else None
    scores = door.scores(search_id, split=split, trial=trial, after=key, limit=limit + 1)
    items = [score_resource(score) for score in scores[:limit]]
    last = scores[limit - 1] if len(scores) > limit else None
    return ScoreList(items=items, next_after=None if last is None else f"{last.trial}:{last.score.document_id}")


@router.get("/{search_id}/pictures", operation_id="get_pictures", responses=common.problems(404))
def get_pictures(search_id: str, door: deps.TheDoor) -> SearchPictures:
    """What is drawn of the search: factors, best so far, race by document, needles by depth; as of the last finished
    generation. Large searches are thinned out; `ropewalk plot` makes PNG files of it."""
    return door.pictures(search_id)


@router.get(
    "/{search_id}/factors",
    operation_id="get_factors",
    response_class=Response,
    responses={
        200: {
            "description": "json: the factor file; hf, vllm, mlx: a config fragment; csv: one row per pair",
            "content": {"application/json": {}, "text/csv": {}},
            "headers": {
                NOTE_HEADER: {
                    "schema": {"type": "string"},
                    "description": "what the format's consumer ignores, one sentence; sent several times",
                }
            },
        },
        **common.problems(404, 409),
    },
)
def get_factors(
    search_id: str,
    door: deps.TheDoor,
    format: FactorFormat = "json",
) -> Response:
    """The winning factors."""
    row = EXPORTS[format]
    if row.write is None:
        raise FormatNeedsModel(
            "a GGUF holds the model's weights, so it is made where the model is: "
            f"ropewalk factors {search_id} --format gguf --model-gguf MODEL.gguf -o OUTPUT.gguf"
        )
    file = door.factor_file(search_id)
    suffix = "csv" if row.media_type == CSV else "json"
    name = f"factors.{suffix}" if row.is_whole else f"{search_id}.{format}.{suffix}"
    response = Response(row.write(file), media_type=row.media_type)
    response.headers["Content-Disposition"] = f'inline; filename="{name}"'
    for note in row.all_notes(file):
        response.headers.append(NOTE_HEADER, note)
    return response
