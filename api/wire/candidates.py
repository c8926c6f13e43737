"""What a search's candidates look like over HTTP."""

from ropewalk.wire.candidates import ScoreResource, TrialResource
from storage.records import StoredScore, TrialRecord


def trial_resource(trial: TrialRecord, *, full: bool) -> TrialResource:
    """A candidate, from the study's record."""
    candidate = trial.candidate
    return TrialResource(
        number=trial.number,
        generation=trial.generation,
        slot=trial.slot,
        state=str(trial.state),
        nll=trial.nll,
        origin=candidate.origin,
        parents=list(candidate.parents),
        critical_pair=candidate.critical_pair,
        attention_factor=candidate.scaling.attention_factor,
        reason=trial.reason,
        factors=list(candidate.scaling.factors.values) if full else None,
    )


def score_resource(stored: StoredScore) -> ScoreResource:
    """A document's score, from its stored row."""
    score = stored.score
    return ScoreResource(
        trial=stored.trial,
        split=stored.split,
        document_id=score.document_id,
        nats=score.nats,
        tokens=score.tokens,
        exact=score.exact,
        worker=stored.worker,
        seconds=stored.seconds,
    )
