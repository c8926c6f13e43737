"""What the specs that users submit have in common.

Frozen and validated on construction; unknown fields are refused. What can be checked from the spec alone is checked
here; what needs the model or the corpus is checked in `prepare` before the job is accepted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from ropewalk.reading.lengths import tokens_of
from ropewalk.version import ROPEWALK_VERSION
from service.errors import InvalidSpec, UnknownSpec

Label = Annotated[str, StringConstraints(min_length=1, max_length=200)]
MAX_LABELS = 32
Labels = Annotated[dict[Label, Label], Field(max_length=MAX_LABELS, description="free text to find the job by")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="all randomness is derived from it")]


@dataclass(frozen=True, slots=True)
class Reads:
    """Marks a field whose text makes the service read: a model, a corpus or another file. See `service.readable`."""

    what: Literal["model", "corpus", "file"]


ModelName = Annotated[str, StringConstraints(min_length=1, max_length=1024), Reads("model")]
CorpusName = Annotated[str, StringConstraints(min_length=1, max_length=4096), Reads("corpus")]
FileName = Annotated[str, StringConstraints(min_length=1, max_length=4096), Reads("file")]
JobId = Annotated[str, StringConstraints(max_length=64)]
TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[\w.+-]+$")]


def _spoken(value: object) -> object:
    return tokens_of(value) if isinstance(value, str) else value


Tokens = Annotated[int, BeforeValidator(_spoken)]
"""A length: a number, or as people write it, 32k."""
MAX_TARGET_LENGTH = 16 * 1024 * 1024  # tokens; no RoPE model reaches further today
MAX_DOCUMENTS = 10_000


class Spec(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def canonical_json(self) -> str:
        """The text that is stored and hashed: every field, defaults included, in declaration order."""
        return self.model_dump_json()


S = TypeVar("S", bound=Spec)


def stored_spec(spec: type[S], text: str) -> S:
    """A job's spec, which was checked when it was accepted, by a version that knew it.

    Raises:
        UnknownSpec: this version does not know a field of it, or a value.
    """
    try:
        return spec.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise UnknownSpec(
            f"every field of the job's spec must be known, but Ropewalk {ROPEWALK_VERSION} does not know it: "
            f"{where}: {first['msg']}"
        ) from error


def with_labels(spec_json: str, labels: Mapping[str, str]) -> str:
    """A stored spec, of any version, with `labels` in place of its own.

    Raises:
        InvalidSpec: more than a job may have.
    """
    if len(labels) > MAX_LABELS:
        raise InvalidSpec(f"a job has at most {MAX_LABELS} labels, but would have {len(labels)}", pointer="/labels")
    return json.dumps({**json.loads(spec_json), "labels": dict(labels)}, ensure_ascii=False, separators=(",", ":"))
