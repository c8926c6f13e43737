"""The HTTP application: routes, access, problem documents, the read-only dashboard."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.routing import BaseRoute

from api.http.auth import DOCS_ASSETS, AccessMiddleware, Gatekeeper
from api.http.dashboard import DashboardRoute
from api.http.fields import no_unknown_query
from api.http.handlers import install_handlers
from api.http.metrics import Metrics
from api.http.middleware import BodyLimitMiddleware, RequestContextMiddleware
from api.http.oidc import Issuer
from api.http.prefix import PrefixMiddleware
from api.http.routes import (
    audit,
    evaluations,
    finetunes,
    health,
    models,
    pages,
    plan_pages,
    plans,
    searches,
    webhooks,
)
from api.rate_limits import RateLimits
from api.settings import Settings
from evaluation.models.user_path import user_path
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.factor_value import FACTOR_FILE_SCHEMA
from ropewalk.wire.problems import Problem
from service.door import Door
from storage.api_keys import ApiKeys

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DESCRIPTION = """
Finds the RoPE rescale factors that extend a language model's context window, and hands them to a fine-tuning job.

Errors are RFC 9457 problem documents with a stable `code`. An `Idempotency-Key` makes a repeated POST return the first
job. Lists are paged by keyset. Event lists become streams with `Accept: text/event-stream`. Keys are sent as
`Authorization: Bearer rw_...`; a server without keys listens on loopback only and wants the token in its home. Who asks
too often is answered 429 with Retry-After.
"""

_OF_EVERY_ROUTE = [Depends(no_unknown_query)]


def create_app(
    door: Door,
    keys: ApiKeys,
    settings: Settings,
    *,
    open_optuna_storage: "Callable[[], BaseStorage]",
    token: str | None = None,
) -> FastAPI:
    """The application, whose operator sends `token`; nothing is opened and no database is asked before a request."""
    app = FastAPIOffline(  # Swagger UI from this machine: many clusters see no CDN
        title="Ropewalk",
        version=ROPEWALK_VERSION,
        description=DESCRIPTION,
        redoc_url=None,
        static_url=DOCS_ASSETS,
        redirect_slashes=False,  # an address has one spelling
        dependencies=_OF_EVERY_ROUTE,
    )
    app.state.door = door
    app.state.own_roots = settings.roots
    files = settings.store(user_path(str(settings.home)).absolute()).directory("")
    app.state.roots = settings.roots if files is None else (*settings.roots, files)
    app.state.metrics = Metrics(door)
    install_handlers(app)
    app.router.routes += [*_routes(), DashboardRoute(open_optuna_storage)]
    app.add_middleware(BodyLimitMiddleware)
    limits = RateLimits(settings.requests)
    issuer = None if settings.oidc is None else Issuer(settings.oidc)
    gatekeeper = Gatekeeper(keys, host=settings.host, limits=limits, token=token, issuer=issuer, owner_of=door.owner)
    app.add_middleware(AccessMiddleware, gatekeeper=gatekeeper)
    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(PrefixMiddleware, configured=settings.root_path)  # added last is outermost
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    return app


@functools.cache
def _routes() -> tuple[BaseRoute, ...]:
    """The same for every application; to read their signatures takes longer than all else that one is made of."""
    router = APIRouter(dependencies=_OF_EVERY_ROUTE)
    for routes in (searches, finetunes, evaluations, models, plans, webhooks, audit, health, pages, plan_pages):
        router.include_router(routes.router)
    return tuple(router.routes)


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI 3.1 document: problem documents instead of FastAPI's own validation body, bearer keys."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=DESCRIPTION,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        components = document["components"]
        for name in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(name, None)
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components["schemas"] |= {**problem.pop("$defs"), "Problem": problem}
        components["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "bearerFormat": "rw_<id>_<secret>"}
        }
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [{"key": []}, {}] if path.startswith(("/v1", "/metrics")) else []
        document = _named(document, "FactorFile", FACTOR_FILE_SCHEMA)
        document["components"]["schemas"]["FactorFile"] = FACTOR_FILE_SCHEMA
        app.openapi_schema = document
    return app.openapi_schema


def _named(document: Any, name: str, schema: Mapping[str, Any]) -> Any:
    """`document` with references to a component in the places of `schema`: one type in generated clients."""
    if document == schema:
        return {"$ref": f"#/components/schemas/{name}"}
    if isinstance(document, list):
        return [_named(one, name, schema) for one in document]
    if isinstance(document, dict):
        return {key: _named(value, name, schema) for key, value in document.items()}
    return document
