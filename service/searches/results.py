"""What a finished search says: the winner on held-out documents, against every baseline, as a factor file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evaluation.documents.overlap import Overlap
from evaluation.scores.score import PairedDifference, ScoreSummary, paired_difference, summarise
from ropewalk.factors.factor_file import BaselineResult, FactorFile, SearchSummary, ValidationSummary
from ropewalk.version import ROPEWALK_VERSION
from ropewalk.wire.reports import Comparison, CostReport, FinalistRow, OverlapReport, SearchReport, Verdict
from search_space.candidates.candidate import ScoredCandidate
from search_space.candidates.cost import Spent
from service.searches.loop import FinishedSearch
from service.searches.prepare import PreparedSearch
from service.specs.base import MAX_DOCUMENTS

_TOLD_FROM = 1.05  # times as wide: a sentence that is shared widens an interval by nothing that could be read from it


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    """One candidate on the validation documents that it got to."""

    scored: ScoredCandidate
    summary: ScoreSummary

    @property
    def trial(self) -> int:
        """Its number."""
        return self.scored.trial

    @property
    def name(self) -> str:
        """The baseline's name, or the trial's number."""
        return self.scored.candidate.baseline_name or f"trial {self.trial}"

    @property
    def is_baseline(self) -> bool:
        """Whether it is an analytic baseline rather than a bred candidate."""
        return self.scored.candidate.baseline_name is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """The winner, chosen on documents that no candidate was bred on.

    The best bred candidate wins where it beats the best baseline beyond noise; otherwise the result is that baseline.
    """

    winner: Finalist
    best_baseline: Finalist
    best_bred: Finalist | None
    difference: PairedDifference | None
    """Best bred candidate minus best baseline, nats per answer token, paired by document, 95 % bootstrap interval."""
    finalists: tuple[Finalist, ...]
    factor_file: FactorFile
    searched: Spent
    validated: Spent
    overlap: Overlap
    """Of the held-out documents."""
    warnings: tuple[str, ...] = ()
    """What a user must know of the model before trusting any verdict."""

    @property
    def verdict(self) -> Verdict:
        """Whether what was found beats the best baseline beyond noise."""
        if not self.winner.is_baseline:
            return "beats_best_baseline"
        lower = self.difference is not None and self.difference.mean < 0.0
        return "within_noise_of_best_baseline" if lower else "is_best_baseline"

    def report(self) -> SearchReport:
        """What the search's resource shows as `result`."""
        return SearchReport(
            verdict=self.verdict,
            statement=self.statement(),
            comparison=self._comparison(),
            factors=self.factor_file,
            finalists=tuple(_finalist_row(finalist) for finalist in self.finalists),
            searched=_cost(self.searched),
            validated=_cost(self.validated),
            overlap=OverlapReport(
                documents=self.overlap.documents,
                share=self.overlap.share,
                effective_documents=self.overlap.effective,
                widened=1.0 if self.difference is None else self.difference.widened,
            ),
        )

    def statement(self) -> str:
        """The verdict as a sentence or two, then what to know of the model."""
        notes = (*self._overlap_notes(), *self.warnings)
        return " ".join((self._statement(), *(f"Note: {note}." for note in notes)))

    def _statement(self) -> str:
        best = f"{self.best_baseline.name} ({self.best_baseline.summary.nll:.4f} nats per answer token)"
        result = f"the result is that baseline, {self.best_baseline.name}"
        if self.best_bred is None or self.difference is None:
            return f"No searched candidate could be compared with the best analytic baseline {best}: {result}."
        interval = f"difference {self.difference.mean:+.4f}, 95 % interval [{self.difference.low:+.4f}, "
        interval += f"{self.difference.high:+.4f}] on {self.best_bred.summary.documents} held-out documents"
        found = f"{self.best_bred.name} ({self.best_bred.summary.nll:.4f})"
        if self.verdict == "beats_best_baseline":
            return f"{found} beats the best analytic baseline {best}: {interval}."
        if self.verdict == "within_noise_of_best_baseline":
            more = _more(self.difference, self.best_bred.summary.documents)
            return f"{found} is within noise of the best analytic baseline {best}: {interval}; {result}{more}."
        return f"Nothing searched beat the best analytic baseline {best}: {found} came closest, {interval}; {result}."

    def _overlap_notes(self) -> Iterator[str]:
        if self.difference is not None and self.difference.widened >= _TOLD_FROM:
            overlap = self.overlap
            yield (
                f"the {overlap.documents} held-out documents share text with each other ({overlap.share:.0%} with the "
                f"one most alike) and are worth at least {overlap.effective:.1f} independent ones, so the interval is "
                f"{self.difference.widened:.1f} times as wide: a longer corpus narrows it"
            )

    def _comparison(self) -> Comparison | None:
        if self.best_bred is None or self.difference is None:
            return None
        return Comparison(
            trial=self.best_bred.trial,
            nll=self.best_bred.summary.nll,
            best_baseline=self.best_baseline.name,
            best_baseline_nll=self.best_baseline.summary.nll,
            documents=self.best_bred.summary.documents,
            difference=self.difference.mean,
            ci95=(self.difference.low, self.difference.high),
        )


def _more(difference: PairedDifference, documents: int) -> str:
    """What would tell the two apart, where it is more documents."""
    wanted = difference.documents_to_tell(documents)
    if difference.widened >= _TOLD_FROM or wanted is None or wanted > MAX_DOCUMENTS:
        return ""  # more of the same text would not: the note of the overlap says what would
    return f"; about {wanted} held-out documents (validation_documents) would tell a difference of this size"


def decide(prepared: PreparedSearch, search_id: str, search: FinishedSearch) -> SearchResult:
    """What the validation's outcome makes of the finalists; those with more documents first, then by NLL."""
    found, validation = search.outcome, search.validation
    ranked = sorted(
        (Finalist(scored=one, summary=summarise(validation[one.trial])) for one in search.finalists),
        key=lambda one: (-one.summary.documents, one.summary.nll, one.trial),
    )
    by_trial = {finalist.trial: finalist for finalist in ranked}
    winner, best_baseline = by_trial[found.winner], by_trial[found.best_baseline]
    shares = search.overlap.shares
    seed = prepared.spec.seed
    against = paired_difference(validation[winner.trial], validation[best_baseline.trial], shares=shares, seed=seed)
    return SearchResult(
        winner=winner,
        best_baseline=best_baseline,
        best_bred=None if found.best_bred is None else by_trial[found.best_bred],
        difference=found.difference,
        finalists=tuple(ranked),
        overlap=search.overlap,
        warnings=prepared.warnings,
        searched=Spent(passes=search.search_passes, tokens=search.search_tokens),
        validated=Spent(passes=search.validation_passes, tokens=search.validation_tokens),
        factor_file=_factor_file(prepared, search_id, search, ranked, winner, best_baseline, against),
    )


def _factor_file(
    prepared: PreparedSearch,
    search_id: str,
    search: FinishedSearch,
    ranked: Sequence[Finalist],
    winner: Finalist,
    best_baseline: Finalist,
    against: PairedDifference,
) -> FactorFile:
    candidate = winner.scored.candidate
    return FactorFile.of(
        prepared.model.rope,
        candidate.scaling,
        model=prepared.model.identity(),
        target_length=prepared.spec.target_length,
        critical_pair=candidate.critical_pair,
        search=SearchSummary(
            id=search_id,
            trial=winner.trial,
            nll=winner.scored.nll,
            documents=len(winner.scored.scores),
            document_passes=sum(one.document_passes for one in search.history),
            tokens=sum(one.cost(prepared.cost) for one in search.history),
        ),
        validation=ValidationSummary(
            nll=winner.summary.nll,
            exact_match=winner.summary.exact_match,
            documents=winner.summary.documents,
            tokens=search.validation_tokens,
            best_baseline=best_baseline.name,
            best_baseline_nll=best_baseline.summary.nll,
            delta_ci95=(against.low, against.high),
        ),
        baselines=tuple(
            BaselineResult(
                name=finalist.name,
                nll=finalist.summary.nll,
                exact_match=finalist.summary.exact_match,
                documents=finalist.summary.documents,
            )
            for finalist in ranked
            if finalist.is_baseline
        ),
        seed=prepared.spec.seed,
        ropewalk_version=ROPEWALK_VERSION,
    )


def _cost(spent: Spent) -> CostReport:
    return CostReport(document_passes=spent.passes, tokens=spent.tokens)


def _finalist_row(finalist: Finalist) -> FinalistRow:
    candidate, summary = finalist.scored.candidate, finalist.summary
    return FinalistRow(
        trial=finalist.trial,
        name=finalist.name,
        origin=candidate.origin,
        critical_pair=candidate.critical_pair,
        attention_factor=candidate.scaling.attention_factor,
        long_factor=candidate.scaling.factors.values,
        search_nll=finalist.scored.nll,
        nll=summary.nll,
        nll_standard_error=summary.nll_standard_error,
        perplexity=summary.perplexity,
        exact_match=summary.exact_match,
        documents=summary.documents,
    )
