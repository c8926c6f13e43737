"""What a plan is asked for beside a spec."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from service.specs.base import Spec
from workers.gpus import GPUS

if TYPE_CHECKING:
    GpuName = str
else:
    GpuName = Literal[*GPUS]  # an enum in the schema


class PlanOptions(Spec):
    """The GPUs that a plan counts hours on. Peaks are data sheets'; the share that a run reaches is assumed."""

    gpu: GpuName = Field("H100", description=GPUS.described())
    gpus: int | None = Field(
        None, ge=1, le=65_536, description="how many there are; null: as many as the spec's workers take"
    )
    utilisation: float = Field(0.4, gt=0, le=1, description="share of the dense bf16 peak that passes reach")
    price_per_gpu_hour: float | None = Field(None, ge=0, le=1e6, description="in any currency; null: no price is told")
