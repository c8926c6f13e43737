"""Whether the process lives (`/healthz`), whether it can work (`/readyz`), and what it has to do (`/metrics`)."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.errors import NotReady
from api.http import deps
from api.http.metrics import Metrics
from api.http.routes import common
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.jobs import Health, Readiness

router = APIRouter(tags=["operations"])


@router.get("/healthz", operation_id="get_health")
def get_health() -> Health:
    """The process answers; nothing else is looked at."""
    return Health(version=ROPEWALK_VERSION)


@router.get("/readyz", operation_id="get_readiness", responses=common.problems())
def get_readiness(door: deps.TheDoor) -> Readiness:
    """The database answers and its schema is current; else 503."""
    ready, reason = door.ready()
    if not ready:
        raise NotReady(reason)
    return Readiness(detail=reason)


@router.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **common.problems()},
)
def get_metrics(request: Request) -> Response:
    """Prometheus text: jobs by state, what waits, what was scored, what failed, seconds by stage."""
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)
