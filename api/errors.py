"""What this room refuses, and the one table from every room's error codes to HTTP.

ApiRoomError
├── InvalidSettings        a setting of the environment breaks its rule (start-up)
├── UnsafeBind             an address other machines reach, without any key (start-up)
├── PortTaken              somebody else listens on the port (start-up)
├── Unauthenticated        no key, or one that is unknown or revoked
├── IssuerUnreachable      the issuer of tokens does not give its keys
├── InsufficientScope      the key may not do this
├── HostNotAllowed         the Host header is not a loopback name while no key is needed
├── CrossOriginRequest     a web page of another origin asked for a change
├── TooManyRequests        one requester asks too often
├── MalformedRequest       not JSON, or a header that cannot be read
├── ReportNotReady         the evaluation has no result that a report could show
├── FormatNeedsModel       an export that holds the model's weights was asked for over REST
├── PushRefused            the Hugging Face Hub does not take an upload
└── NotReady               the database or its schema is not usable yet
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus


class ApiRoomError(Exception):
    """Anything this room refuses."""

    code = "API_ERROR"


class InvalidSettings(ApiRoomError, ValueError):
    """A setting of the environment breaks its rule; raised before anything starts."""

    code = "INVALID_SETTINGS"


class UnsafeBind(ApiRoomError, RuntimeError):
    """The address can be reached from other machines, and no API key exists."""

    code = "UNSAFE_BIND"


class PortTaken(ApiRoomError, OSError):
    """The address cannot be bound."""

    code = "PORT_TAKEN"


class Unauthenticated(ApiRoomError, PermissionError):
    """No key was sent, or one that is unknown or revoked."""

    code = "UNAUTHENTICATED"


class IssuerUnreachable(ApiRoomError, ConnectionError):
    """A token cannot be checked now: its issuer does not answer, or not as one."""

    code = "ISSUER_UNREACHABLE"


class InsufficientScope(ApiRoomError, PermissionError):
    """The key lacks the scope that the request needs."""

    code = "INSUFFICIENT_SCOPE"


class HostNotAllowed(ApiRoomError, PermissionError):
    """A server without keys answers to loopback names only, so that no web page can reach it by DNS rebinding."""

    code = "HOST_NOT_ALLOWED"


class CrossOriginRequest(ApiRoomError, PermissionError):
    """A web page of another origin asked for a change."""

    code = "CROSS_ORIGIN_REQUEST"


class TooManyRequests(ApiRoomError, RuntimeError):
    """One requester asks too often. `retry_after_seconds` says when asking again pays; `until` is by `time.time`."""

    code = "TOO_MANY_REQUESTS"

    def __init__(self, message: str, *, until: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = max(1, math.ceil(until - time.time()))


class MalformedRequest(ApiRoomError, ValueError):
    """The request cannot be read."""

    code = "MALFORMED_REQUEST"


class ReportNotReady(ApiRoomError, RuntimeError):
    """The evaluation has not ended, or ended without a result."""

    code = "REPORT_NOT_READY"


class FormatNeedsModel(ApiRoomError, ValueError):
    """The export holds the model's weights, which the server does not send."""

    code = "FORMAT_NEEDS_MODEL"


class PushRefused(ApiRoomError, RuntimeError):
    """The Hugging Face Hub cannot be reached, or does not take what was to be pushed."""

    code = "PUSH_REFUSED"


class NotReady(ApiRoomError, RuntimeError):
    """The database cannot be used yet."""

    code = "NOT_READY"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProblemKind:
    """How one code is reported over HTTP."""

    status: int
    title: str
    retry_after_seconds: int | None = None


def _kind(status: HTTPStatus, title: str, retry_after_seconds: int | None = None) -> ProblemKind:
    return ProblemKind(status=int(status), title=title, retry_after_seconds=retry_after_seconds)


#: Every code of every room; tests/api/test_errors.py checks that none is missing.
PROBLEM_KINDS: Mapping[str, ProblemKind] = {
    # this room
    "MALFORMED_REQUEST": _kind(HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    "VALIDATION_FAILED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The request breaks a rule"),
    "UNAUTHENTICATED": _kind(HTTPStatus.UNAUTHORIZED, "An API key is needed"),
    "ISSUER_UNREACHABLE": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The issuer of tokens cannot be reached", 5),
    "INSUFFICIENT_SCOPE": _kind(HTTPStatus.FORBIDDEN, "The API key may not do this"),
    "HOST_NOT_ALLOWED": _kind(HTTPStatus.FORBIDDEN, "The Host header is not allowed"),
    "CROSS_ORIGIN_REQUEST": _kind(HTTPStatus.FORBIDDEN, "Requests of other origins are refused"),
    "TOO_MANY_REQUESTS": _kind(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "NOT_FOUND": _kind(HTTPStatus.NOT_FOUND, "There is nothing at this address"),
    "METHOD_NOT_ALLOWED": _kind(HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here"),
    "PAYLOAD_TOO_LARGE": _kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "UNSUPPORTED_MEDIA_TYPE": _kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON"),
    "REPORT_NOT_READY": _kind(HTTPStatus.CONFLICT, "The evaluation has no result yet", 5),
    "FORMAT_NEEDS_MODEL": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The format holds the model's weights"),
    "NOT_READY": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The server is not ready", 2),
    "HTTP_ERROR": _kind(HTTPStatus.BAD_REQUEST, "The request was refused"),
    "INTERNAL_ERROR": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Something broke in the server"),
    # this room, never over HTTP, only on the command line
    "INVALID_SETTINGS": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "A setting is invalid"),
    "UNSAFE_BIND": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "An API key is needed to bind this address"),
    "PORT_TAKEN": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The port is taken"),
    "PUSH_REFUSED": _kind(HTTPStatus.BAD_GATEWAY, "The Hub does not take the upload"),
    "DEMO_FAILED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The demo failed"),
    # ropewalk, never over HTTP, only on the command line and in Python programs
    "BAD_INPUT": _kind(HTTPStatus.BAD_REQUEST, "The input breaks a rule"),
    "SERVER_UNREACHABLE": _kind(HTTPStatus.BAD_GATEWAY, "No server answers"),
    "INCOMPATIBLE_SERVER": _kind(HTTPStatus.BAD_GATEWAY, "The server is of another version"),
    "SEARCH_REFUSED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The search cannot be done here"),
    "NOT_SERVED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "vLLM cannot serve the model with a switch"),
    "INVALID_SWITCH": _kind(HTTPStatus.BAD_REQUEST, "A request asks vLLM for factors that it cannot have"),
    # ropewalk and search_space
    "UNSUPPORTED_ROPE": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The model's position encoding cannot be rescaled"),
    "INVALID_ORIGINAL_LENGTH": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The original length is invalid"),
    "INVALID_RESCALE_FACTORS": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The rescale factors are invalid"),
    "INVALID_TARGET_LENGTH": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The target length is invalid"),
    "INVALID_STRATEGY": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The strategy is invalid"),
    "FACTORS_DO_NOT_FIT": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The factors belong to another model"),
    "INVALID_FACTOR_FILE": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The factor file is invalid"),
    # evaluation
    "CORPUS_NOT_FOUND": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The corpus was not found"),
    "CORPUS_TOO_SHORT": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The corpus is too short"),
    "KEY_NOT_SINGLE_VALUED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "A needle's key has more than one value"),
    "UNSUPPORTED_TOKENIZER": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The tokenizer cannot be used"),
    "INVALID_DOCUMENT_REQUEST": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The documents asked for are impossible"),
    "MODEL_NOT_FOUND": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The model was not found"),
    "INVALID_CORPUS": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The corpus cannot be read"),
    "INVALID_SCORES": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The document scores do not belong together"),
    "UNSUPPORTED_MODEL": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The model is not supported"),
    # workers
    "SCORER_UNAVAILABLE": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The scorer is not available here"),
    "INVALID_SCORER_SETTINGS": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The scorer's settings are invalid"),
    "SCORER_CLOSED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The scorer was closed"),
    "POOL_BUSY": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The scoring pool is busy"),
    "SCORING_FAILED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Scoring failed"),
    "WORKER_LOST": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "A scoring worker was lost"),
    "DOCUMENT_TOO_LONG": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "A document is longer than the model's context"),
    # finetune
    "INVALID_FINETUNE_SETTINGS": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The fine-tuning settings are invalid"),
    "NOT_ENOUGH_MEMORY": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The training does not fit the device's memory"),
    "CANNOT_RESUME": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The state to resume from is of another training"),
    "INVALID_ADAPTER": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The directory holds no adapter"),
    "OUTPUT_NOT_EMPTY": _kind(HTTPStatus.CONFLICT, "The output directory is not empty"),
    "UNSUPPORTED_GGUF": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The GGUF cannot take the factors"),
    "MODEL_NOT_TRAINABLE": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The model cannot be fine-tuned"),
    "MIXED_WINDOW": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Training mixed its context windows"),
    "TRAINING_DIVERGED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Training diverged"),
    "TRAINING_STOPPED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Training was stopped"),
    # storage
    "INVALID_DATABASE_URL": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The database URL is invalid"),
    "TRIAL_NOT_FOUND": _kind(HTTPStatus.NOT_FOUND, "There is no such trial"),
    "STUDY_CONFLICT": _kind(HTTPStatus.CONFLICT, "The study holds something else"),
    "DATABASE_UNREACHABLE": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The database cannot be reached", 2),
    "SCHEMA_OUTDATED": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The database schema must be upgraded", 10),
    "SCHEMA_TOO_NEW": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The database schema is of a newer version", 10),
    "DATABASE_NOT_PERMITTED": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The database's user lacks a right", 10),
    "SHARED_SESSIONS": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "A pooler shares the database's sessions"),
    "DATABASE_NOT_EMPTY": _kind(HTTPStatus.CONFLICT, "The database has tables"),
    "BACKUP_FAILED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The backup failed"),
    "STORAGE_NOT_WRITABLE": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The server's disk is not writable"),
    "JOB_NOT_FOUND": _kind(HTTPStatus.NOT_FOUND, "There is no such job"),
    "JOB_DELETED": _kind(HTTPStatus.NOT_FOUND, "The job was deleted"),
    "JOB_IN_USE": _kind(HTTPStatus.CONFLICT, "Other jobs need this one"),
    "WEBHOOK_NOT_FOUND": _kind(HTTPStatus.NOT_FOUND, "There is no such webhook"),
    "TOO_MANY_WEBHOOKS": _kind(HTTPStatus.CONFLICT, "There are too many webhooks"),
    "LEASE_LOST": _kind(HTTPStatus.CONFLICT, "Another controller owns the job"),
    "INVALID_TRANSITION": _kind(HTTPStatus.CONFLICT, "The job's state does not allow this"),
    "IDEMPOTENCY_KEY_REUSED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The Idempotency-Key came with another body"),
    "INVALID_PAGE_TOKEN": _kind(HTTPStatus.BAD_REQUEST, "The page token is invalid"),
    # service
    "INVALID_SPEC": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The spec breaks a rule"),
    "PATH_NOT_ALLOWED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The path is outside the server's roots"),
    "ADDRESS_NOT_ALLOWED": _kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The server may not call this address"),
    "UNKNOWN_SPEC": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The job's spec is of a newer version"),
    "FILES_UNREACHABLE": _kind(HTTPStatus.SERVICE_UNAVAILABLE, "The store of files cannot be reached", 5),
    "FILE_MISSING": _kind(HTTPStatus.NOT_FOUND, "The file is not in the store any more"),
    "FILE_DAMAGED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The file is not the one that was stored"),
    "LIMIT_REACHED": _kind(HTTPStatus.CONFLICT, "The owner has all that it may have"),
    "FACTORS_NOT_READY": _kind(HTTPStatus.CONFLICT, "The search has no factors yet", 5),
    "RUN_STOPPED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The run was stopped"),
    "RUN_FAILED": _kind(HTTPStatus.INTERNAL_SERVER_ERROR, "The run failed"),
}
