"""Score a factor file or an analytic baseline on a model, without a service.

    python examples/score_factors.py pocket yarn --target-length 512
    python examples/score_factors.py pocket factors.json

Prints the NLL in nats per answer token over held-out needle documents, and the share of documents answered exactly.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from evaluation.documents.corpus import load_corpus
from evaluation.documents.factory import DocumentFactory, DocumentRequest
from evaluation.errors import EvaluationError
from evaluation.models.fitting import check_model, resolve_for
from evaluation.models.source import load_tokenizer, resolve_model
from evaluation.scores.score import summarise
from ropewalk.errors import RopewalkError
from ropewalk.factors.factor_file import FactorFile
from search_space.candidates.baselines import BASELINE_NAMES, baseline
from workers.base import ScorerSettings
from workers.errors import WorkersError
from workers.factory import make_scorer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="pocket, a directory, or a Hub id")
    parser.add_argument("factors", help=f"a factor file, or one of {', '.join(BASELINE_NAMES)}")
    parser.add_argument("--target-length", type=int, help="tokens; a factor file has its own")
    parser.add_argument("--documents", type=int, default=10)
    given = parser.parse_args()

    if given.factors in BASELINE_NAMES:
        source = resolve_model(given.model)
        length = given.target_length or 4 * source.rope.original_max_position_embeddings
        scaling = baseline(given.factors, source.rope, length).scaling
    else:
        file = FactorFile.from_json(Path(given.factors).read_text(encoding="utf-8"))
        source = resolve_for(file, given.model)
        check_model(source, file)  # refuses factors that were found for another model
        source = replace(
            source, rope=file.rope
        )  # of a checkpoint that was trained with them, what is below the factors
        length, scaling = given.target_length or file.target_length, file.scaling

    documents = DocumentFactory(load_tokenizer(source), load_corpus(None)).build(
        DocumentRequest(target_length=length, count=given.documents, seed=0, split="validation", needles=1)
    )
    original = source.rope.original_max_position_embeddings
    scorer = make_scorer(
        ScorerSettings(model=given.model, target_length=length, original_length=original, rope=source.rope)
    )
    summary = summarise(scorer.score(scaling, documents))
    scorer.close()
    print(f"{given.factors} on {given.model} at {length} tokens:")
    print(f"NLL {summary.nll:.6f}, exact {summary.exact_match:.1%} of {summary.documents} documents")


if __name__ == "__main__":
    try:
        main()
    except (EvaluationError, RopewalkError, WorkersError) as error:
        sys.exit(f"{error}")
