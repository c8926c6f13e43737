"""Who takes part in an evaluation: the model as it is, each baseline, the found factors, a fine-tuned checkpoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.scores.served_rope import ServedRope
from ropewalk.factors.factor_file import FactorFile
from ropewalk.rope.config import RopeConfig
from ropewalk.rope.scaling import Scaling
from search_space.candidates.baselines import baseline, baselines, own_attention_factor
from search_space.candidates.candidate import Candidate
from workers.model_files import ModelFiles

BASE = "none"  # the baseline that scales nothing
FOUND = "found factors"
FINETUNED = "fine-tuned"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contender:
    """One row group of the report: a model, as workers load it, and the RoPE that it runs with."""

    name: str
    model: str
    rope: ServedRope

    def at(self, length: int) -> "Setup":
        """What texts of `length` tokens run on."""
        return Setup(model=self.model, length=length, scaling=self.rope.at(length))


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What decides a score at one length: contenders with equal setups have equal scores, which are taken once."""

    model: str
    length: int
    scaling: Scaling


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A fine-tuned model: its directory, the factors that it was trained with, and how its files get there; None: they
    are there."""

    path: Path
    file: FactorFile
    files: ModelFiles | None = None


def contenders(
    rope: RopeConfig,
    model: str,
    target: int,
    *,
    baselined: bool,
    compared: bool,
    found: FactorFile | None,
    trained: Checkpoint | None,
) -> Iterator[Contender]:
    """In the order of the report; `model` as workers load it, `rope` its rotary embedding. The unchanged model is there
    whenever others are `compared` with it, or nobody else is; with `baselined` it is one of the baselines."""
    original = rope.original_max_position_embeddings

    def of_model(name: str, scaling: Scaling) -> Contender:
        return Contender(name=name, model=model, rope=ServedRope(original_length=original, scaling=scaling))

    file = found or (None if trained is None else trained.file)
    if baselined:
        # The formulas at a critical pair get the one that was found: LongRoPE2 table 5, NTK and YaRN at d_rcd.
        for candidate in baselines(rope, target, critical_pair=None if file is None else file.critical_pair):
            yield of_model(_name(candidate), candidate.scaling)
        if found is not None and found.attention_factor != 1.0:
            # Found with an attention factor: the baseline that has one of its own gets it too.
            own = own_attention_factor("yarn", rope, target)
            yield of_model("yarn+attention", replace(baseline("yarn", rope, target).scaling, attention_factor=own))
    elif compared or (found is None and trained is None):
        yield of_model(BASE, Scaling.identity(rope.num_pairs))
    if found is not None:
        yield of_model(FOUND, found.scaling)
    if trained is not None:
        served = ServedRope(original_length=original, scaling=trained.file.scaling)
        yield Contender(name=FINETUNED, model=str(trained.path), rope=served)


def _name(candidate: Candidate) -> str:
    assert candidate.baseline_name is not None  # these are the analytic ones
    return candidate.baseline_name


def setups_at(contenders: Sequence[Contender], lengths: Sequence[int]) -> dict[Setup, Contender]:
    """What must be done, each once, with a contender that it is the setup of."""
    return {contender.at(length): contender for contender in contenders for length in lengths}
