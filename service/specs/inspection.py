"""What an inspection is asked for."""

from pydantic import Field

from service.specs.base import MAX_TARGET_LENGTH, ModelName, Spec, Tokens


class InspectionSpec(Spec):
    """A model, and the lengths to look at it for."""

    model: ModelName = Field(description="`pocket`, a directory, or a hub id, also at a revision: org/name@v1.0")
    target_length: Tokens | None = Field(
        None, ge=2, le=MAX_TARGET_LENGTH, description="L', tokens; left out: four times the original length"
    )
    original_length: Tokens | None = Field(
        None, ge=2, le=MAX_TARGET_LENGTH, description="L, tokens; left out: what the model serves"
    )
