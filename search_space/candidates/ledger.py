"""What was asked for every trial so far, generation by generation: the history that strategies propose from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from search_space.candidates.candidate import Candidate, DocumentNats, ScoredCandidate, measured
from search_space.candidates.step import Step
from search_space.errors import InvalidStrategy

Scores = Callable[[int], Mapping[int, DocumentNats]]
"""trial -> its document scores by index; may hold more than was asked for."""


@dataclass(kw_only=True, slots=True)
class _Entry:
    generation: int
    candidate: Candidate
    documents: list[int]
    is_open: bool
    pruned: bool = False


@dataclass(slots=True)
class Ledger:
    """Takes steps in order and gives back histories.

    A search that is resumed replays its steps; scores that came in for a step that was not finished are not part of the
    history before it, so that the next proposal is the one of an uninterrupted search.
    """

    _entries: dict[int, _Entry] = field(default_factory=dict)

    def begin(self, generation: int, step: Step, numbers: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Enter `step`, whose candidates got these trial numbers; returns the documents to score, by trial.

        Raises:
            InvalidStrategy: the step extends or prunes a trial that is not open.
        """
        for trial in (*step.prune, *(extension.trial for extension in step.extend)):
            if trial not in self._entries or not self._entries[trial].is_open:
                raise InvalidStrategy(f"a step must extend and prune open trials only, but got trial {trial}")
        for trial in step.prune:
            self._entries[trial].is_open, self._entries[trial].pruned = False, True
        asked = {extension.trial: extension.documents for extension in step.extend}
        for trial, documents in asked.items():
            known = set(self._entries[trial].documents)
            self._entries[trial].documents += [index for index in documents if index not in known]
        for number, candidate in zip(numbers, step.candidates, strict=True):
            self._entries[number] = _Entry(
                generation=generation, candidate=candidate, documents=list(step.documents), is_open=step.keep_open
            )
            asked[number] = step.documents
        return asked

    def __len__(self) -> int:
        """How many trials there are so far."""
        return len(self._entries)

    def candidate(self, trial: int) -> Candidate:
        """What the trial scores."""
        return self._entries[trial].candidate

    def open_trials(self) -> tuple[int, ...]:
        """Trials that later steps may extend or prune."""
        return tuple(trial for trial, entry in self._entries.items() if entry.is_open)

    def history(self, scores: Scores, failed: Collection[int]) -> tuple[ScoredCandidate, ...]:
        """Every trial by number with the scores that were asked for; `failed` ones have none and an infinite NLL."""
        return tuple(self._scored(trial, scores, trial in failed) for trial in sorted(self._entries))

    def _scored(self, trial: int, scores: Scores, failed: bool) -> ScoredCandidate:
        entry = self._entries[trial]
        found = {} if failed else scores(trial)
        known = tuple(found[index] for index in sorted(entry.documents) if index in found)
        decisive = measured(known)
        return ScoredCandidate(
            trial=trial,
            generation=entry.generation,
            candidate=entry.candidate,
            nll=sum(s.nats for s in decisive) / sum(s.tokens for s in decisive) if decisive else float("inf"),
            scores=known,
            pruned=entry.pruned,
        )


def leader(history: Sequence[ScoredCandidate]) -> ScoredCandidate | None:
    """The lowest NLL among the trials that were scored on at least half as many documents as any; the first of equals.

    Where there are trials with full documents, among those and by those. None when nothing was scored.
    """
    known = comparable([one for one in history if one.scores and not one.pruned])
    return min(known, key=lambda scored: (scored.nll, scored.trial), default=None)


def comparable(scored: Sequence[ScoredCandidate]) -> list[ScoredCandidate]:
    """Those whose means can be compared: of full documents where any has them, at least half as many as any has."""
    full = [one for one in scored if not all(score.skipped for score in one.scores)] or scored
    most = max((len(one.measured) for one in full), default=0)
    return [one for one in full if 2 * len(one.measured) >= most]
