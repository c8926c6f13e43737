"""RFC 9457 problem documents: every error of a server is one, with a stable `code`."""

import json

from pydantic import BaseModel, ConfigDict, Field

VERSION_HEADER = "X-Ropewalk-Version"
"""Of every response, with the server's version: clients that meet one of another version say so."""


class FieldProblem(BaseModel):
    """One field that breaks a rule."""

    pointer: str = Field(description="JSON pointer into the body, or /name of a query, path or header parameter")
    location: str = Field("body", description="body, query, path or header")
    detail: str
    code: str = Field(description="the rule's name")


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "urn:ropewalk:problem:invalid-spec",
                "title": "The spec breaks a rule",
                "status": 422,
                "detail": "target_length must be greater than the model's original length, but got "
                "target_length=128, original_length=256",
                "instance": "/v1/searches",
                "code": "INVALID_SPEC",
                "request_id": "0f4c2a7e9b1d4e5f",
                "errors": [
                    {
                        "pointer": "/target_length",
                        "location": "body",
                        "detail": "target_length must be greater than the model's original length",
                        "code": "INVALID_SPEC",
                    }
                ],
            }
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="stable; programs branch on this")
    request_id: str | None = None
    errors: list[FieldProblem] | None = None


def problem_from_text(text: str) -> Problem | None:
    """The problem document in a response's body; None when the body is something else."""
    try:
        return Problem.model_validate(json.loads(text))
    except ValueError:
        return None
