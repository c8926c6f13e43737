"""What a finished search says: the winner on held-out documents, against every baseline, as a factor file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evaluation.score import PairedDifference, ScoreSummary, paired_difference
from search_space.factor_file import BaselineResult, FactorFile, SearchSummary, ValidationSummary
from search_space.rescale_factors import RescaleFactors
from search_space.version import ROPEWALK_VERSION
from service.errors import RunFailed
from service.prepare import PreparedSearch
from service.score_book import ScoreBook
from storage.records import TrialRecord

FINALISTS = 8  # bred candidates that go to validation; the pocket model's feasibility run re-ranked as many

Verdict = Literal["beats_best_baseline", "within_noise_of_best_baseline", "is_best_baseline"]


def choose_finalists(trials: Sequence[TrialRecord]) -> tuple[TrialRecord, ...]:
    """Every scored baseline, and the best bred candidates by search NLL; ties go to the earlier trial."""
    scored = [trial for trial in trials if trial.nll is not None]
    baselines = [trial for trial in scored if trial.candidate.baseline_name is not None]
    bred = sorted(
        (trial for trial in scored if trial.candidate.baseline_name is None),
        key=lambda trial: (trial.nll, trial.number),
    )
    return (*baselines, *bred[:FINALISTS])


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    """One candidate on the validation documents."""

    trial: TrialRecord
    summary: ScoreSummary

    @property
    def name(self) -> str:
        """The baseline's name, or the trial's number."""
        return self.trial.candidate.baseline_name or f"trial {self.trial.number}"

    @property
    def is_baseline(self) -> bool:
        """Whether it is an analytic baseline rather than a bred candidate."""
        return self.trial.candidate.baseline_name is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The winner, chosen on documents that no candidate was bred on."""

    winner: Finalist
    best_baseline: Finalist
    difference: PairedDifference
    """Winner minus best baseline, nats per answer token, paired by document, 95 % bootstrap interval."""
    finalists: tuple[Finalist, ...]
    factor_file: FactorFile

    @property
    def verdict(self) -> Verdict:
        """Whether the winner beats the best baseline beyond noise."""
        if self.winner.trial.number == self.best_baseline.trial.number:
            return "is_best_baseline"
        return "beats_best_baseline" if self.difference.high < 0 else "within_noise_of_best_baseline"

    def to_json(self) -> str:
        """What the search's resource shows as `result`."""
        return json.dumps(
            {
                "verdict": self.verdict,
                "statement": self.statement(),
                "factors": json.loads(self.factor_file.to_json()),
                "finalists": [_finalist_row(finalist) for finalist in self.finalists],
            }
        )

    def statement(self) -> str:
        """The verdict as a sentence."""
        winner, best = self.winner, self.best_baseline
        if self.verdict == "is_best_baseline":
            return (
                f"No candidate beat the best analytic baseline on held-out documents: the factors are those of "
                f"{best.name} ({best.summary.nll:.4f} nats per answer token)."
            )
        relation = "beats" if self.verdict == "beats_best_baseline" else "is within noise of"
        return (
            f"{winner.name} ({winner.summary.nll:.4f} nats per answer token) {relation} the best analytic baseline "
            f"{best.name} ({best.summary.nll:.4f}) on held-out documents: difference {self.difference.mean:+.4f}, "
            f"95 % interval [{self.difference.low:+.4f}, {self.difference.high:+.4f}]."
        )


def decide(
    prepared: PreparedSearch, search_id: str, finalists: Sequence[TrialRecord], search: ScoreBook, validation: ScoreBook
) -> SearchResult:
    """Choose the winner among `finalists` by validation NLL; ties go to baselines, then to the earlier trial."""
    ranked = sorted(
        (Finalist(trial=trial, summary=validation.summary(trial.number)) for trial in finalists),
        key=lambda finalist: (finalist.summary.nll, finalist.trial.number),
    )
    best_baseline = next((finalist for finalist in ranked if finalist.is_baseline), None)
    if best_baseline is None:
        raise RunFailed("no analytic baseline could be scored, so there is nothing to compare a winner with")
    winner = ranked[0]
    difference = paired_difference(
        validation.scores(winner.trial.number), validation.scores(best_baseline.trial.number), seed=prepared.spec.seed
    )
    return SearchResult(
        winner=winner,
        best_baseline=best_baseline,
        difference=difference,
        finalists=tuple(ranked),
        factor_file=_factor_file(prepared, search_id, winner, best_baseline, difference, ranked, search),
    )


def _factor_file(
    prepared: PreparedSearch,
    search_id: str,
    winner: Finalist,
    best_baseline: Finalist,
    difference: PairedDifference,
    ranked: Sequence[Finalist],
    search: ScoreBook,
) -> FactorFile:
    candidate = winner.trial.candidate
    return FactorFile(
        model=prepared.model.identity(),
        original_max_position_embeddings=prepared.model.rope.original_max_position_embeddings,
        target_length=prepared.spec.target_length,
        critical_pair=candidate.critical_pair,
        attention_factor=candidate.attention_factor,
        short_factor=RescaleFactors.identity(len(candidate.factors)),
        long_factor=candidate.factors,
        search=SearchSummary(
            id=search_id,
            trial=winner.trial.number,
            nll=search.summary(winner.trial.number).nll,
            documents=prepared.spec.objective.documents,
            document_passes=search.document_passes,
        ),
        validation=ValidationSummary(
            nll=winner.summary.nll,
            exact_match=winner.summary.exact_match,
            documents=winner.summary.documents,
            best_baseline=best_baseline.name,
            best_baseline_nll=best_baseline.summary.nll,
            delta_ci95=(difference.low, difference.high),
        ),
        baselines=_baseline_results(ranked),
        seed=prepared.spec.seed,
        ropewalk_version=ROPEWALK_VERSION,
    )


def _baseline_results(ranked: Sequence[Finalist]) -> tuple[BaselineResult, ...]:
    return tuple(
        BaselineResult(name=finalist.name, nll=finalist.summary.nll, exact_match=finalist.summary.exact_match)
        for finalist in ranked
        if finalist.is_baseline
    )


def _finalist_row(finalist: Finalist) -> dict[str, object]:
    candidate, summary = finalist.trial.candidate, finalist.summary
    return {
        "trial": finalist.trial.number,
        "name": finalist.name,
        "origin": candidate.origin,
        "critical_pair": candidate.critical_pair,
        "attention_factor": candidate.attention_factor,
        "long_factor": list(candidate.factors.values),
        "search_nll": finalist.trial.nll,
        "nll": summary.nll,
        "nll_standard_error": summary.nll_standard_error,
        "perplexity": summary.perplexity,
        "exact_match": summary.exact_match,
        "documents": summary.documents,
    }
