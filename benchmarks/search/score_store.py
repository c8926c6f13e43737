"""Scores in a file by their content: runs that meet the same candidate on the same document share a pass, and an
interrupted benchmark goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from evaluation.documents.needle import NeedleDocument
from evaluation.documents.score_key import candidate_digest, document_digest, score_key
from evaluation.scores.score import DocumentScore
from ropewalk.rope.scaling import Scaling
from workers.base import Scorer, ScorerInfo

Found = tuple[float, int, bool]
"""(nats, answer tokens, exact)."""


class ScoreStore:
    """Scores of one scorer in an SQLite file that several processes share. `passes` counts what was not known."""

    def __init__(self, path: Path, info: ScorerInfo) -> None:
        self._info = info
        self._fingerprint = info.fingerprint()
        self._file = _File(path)
        self.passes = 0

    def score(
        self,
        scaling: Scaling,
        documents: Sequence[NeedleDocument],
        compute: Callable[[Sequence[NeedleDocument]], Sequence[Found]],
    ) -> tuple[DocumentScore, ...]:
        """Scores in the order of `documents`; `compute` is asked for those that are missing, each once."""
        candidate = candidate_digest(scaling)
        keys = [self._key(document, candidate) for document in documents]
        found = self._file.get(keys)
        missing = {key: one for key, one in zip(keys, documents, strict=True) if key not in found}
        if missing:
            new = dict(zip(missing, compute(list(missing.values())), strict=True))
            self.passes += len(new)
            self._file.put(new)
            found |= new
        return tuple(
            DocumentScore(document_id=document.id, nats=nats, tokens=tokens, exact=exact)
            for document, (nats, tokens, exact) in zip(documents, (found[key] for key in keys), strict=True)
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _key(self, document: NeedleDocument, candidate: bytes) -> bytes:
        return score_key(
            model_sha256=self._info.model_sha256,
            scorer=self._fingerprint,
            document=document_digest(document),
            candidate=candidate,
        )


class StoredScorer:
    """Implements :class:`workers.base.Scorer` over another one, whose scores it keeps."""

    def __init__(self, scorer: Scorer, path: Path) -> None:
        self._scorer = scorer
        self._store = ScoreStore(path, scorer.info)

    @property
    def info(self) -> ScorerInfo:
        """What produces the scores."""
        return self._scorer.info

    def score(self, scaling: Scaling, documents: Sequence[NeedleDocument]) -> tuple[DocumentScore, ...]:
        """See :meth:`workers.base.Scorer.score`."""

        def compute(missing: Sequence[NeedleDocument]) -> list[Found]:
            return [(one.nats, one.tokens, one.exact) for one in self._scorer.score(scaling, missing)]

        return self._store.score(scaling, documents, compute)

    def close(self) -> None:
        """Both."""
        self._store.close()
        self._scorer.close()


class _File:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=120.0, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = wal")
        self._connection.execute("PRAGMA synchronous = off")  # a lost score costs one pass
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS scores "
            "(key BLOB PRIMARY KEY, nats REAL, tokens INTEGER, exact INTEGER) WITHOUT ROWID"
        )

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Found]:
        """Those of `keys` that are known."""
        found: dict[bytes, Found] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT key, nats, tokens, exact FROM scores WHERE key IN ({marks})"
            for key, nats, tokens, exact in self._connection.execute(query, part):
                found[key] = (nats, tokens, bool(exact))
        return found

    def put(self, scores: dict[bytes, Found]) -> None:
        """Keep `scores`."""
        rows = [(key, nats, tokens, int(exact)) for key, (nats, tokens, exact) in scores.items()]
        self._connection.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?)", rows)

    def close(self) -> None:
        self._connection.close()
