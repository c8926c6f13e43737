"""One kind of work and what it takes, before anybody says on what it runs."""

from __future__ import annotations

from dataclasses import dataclass

from ropewalk.wire.plan import Bound, PlanRow, WorkName
from search_space.candidates.cost import Spent
from service.specs.plan import PlanOptions
from workers.gpus import GPUS

GIB = 2**30
USABLE = 0.9
"""Share of a GPU's memory that a job may plan with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """So many passes and operations at most, and as expected; `memory`, bytes, on each device."""

    name: WorkName
    bound: Bound
    most: Spent
    flops: float
    expected: Spent
    expected_flops: float
    longest: int
    """Tokens of its longest pass."""
    memory: int
    devices: int
    """GPUs that the spec puts to work side by side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What work runs on: operations per second by the tokens of a pass, of so many side by side."""

    name: str
    rates: tuple[tuple[int, float], ...]
    count: int | None
    """How many there are; None: as many as the spec puts to work."""
    memory_gib: float | None
    price_per_hour: float | None = None
    """Of each of them."""
    training_rate: float | None = None
    """Operations per second of a training's steps, where some were timed; None: those of passes."""

    @classmethod
    def of(cls, options: PlanOptions) -> Device:
        """The GPUs that are asked for."""
        gpu = GPUS[options.gpu]
        return cls(
            name=f"{gpu.name} at {options.utilisation:.0%} of {gpu.bf16_tflops:g} TFLOP/s",
            rates=((1, options.utilisation * gpu.bf16_tflops * 1e12),),
            count=options.gpus,
            memory_gib=gpu.memory_gib,
            price_per_hour=options.price_per_gpu_hour,
        )

    def used(self, work: Work) -> int:
        """How many of them the work keeps busy."""
        return work.devices if self.count is None else min(self.count, work.devices)

    def hours(self, flops: float, work: Work) -> float:
        """Of so many of the work's operations, on all that it keeps busy."""
        _, rate = min(self.rates, key=lambda known: abs(known[0] - work.longest))
        if work.name == "training" and self.training_rate is not None:
            rate = self.training_rate
        return flops / rate / self.used(work) / 3600

    def holds(self, memory: int) -> bool:
        """Whether so many bytes fit one of them, as far as that is known."""
        return self.memory_gib is None or memory <= USABLE * self.memory_gib * GIB

    def row(self, work: Work) -> PlanRow:
        """What the work takes here."""
        hours, expected = self.hours(work.flops, work), self.hours(work.expected_flops, work)
        return PlanRow(
            work=work.name,
            bound=work.bound,
            passes=work.most.passes,
            tokens=work.most.tokens,
            pflop=work.flops / 1e15,
            expected_passes=work.expected.passes,
            expected_tokens=work.expected.tokens,
            expected_pflop=work.expected_flops / 1e15,
            memory_gib=work.memory / GIB,
            fits=self.holds(work.memory),
            hours=hours,
            expected_hours=expected,
            gpus=self.used(work),
            price=self._price(hours, work),
            expected_price=self._price(expected, work),
        )

    def _price(self, hours: float, work: Work) -> float | None:
        return None if self.price_per_hour is None else hours * self.used(work) * self.price_per_hour
