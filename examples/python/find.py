"""Find factors with a server: submit a search, wait for it behind a progress bar, keep what was found.

    ropewalk serve &
    python find.py --model pocket --target-length 512 --output factors.json

The server is the one that ROPEWALK_URL names, by default http://127.0.0.1:8000.
"""

import argparse
import sys

import ropewalk


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--target-length", type=int, default=512)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--max-trials", type=int, default=64)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", default="factors.json")
    given = parser.parse_args()
    spec = {
        "model": given.model,
        "target_length": given.target_length,
        "objective": {"documents": given.documents, "validation_documents": given.documents},
        "budget": {"max_trials": given.max_trials},
        "scorer": {"backend": given.backend},
    }
    with ropewalk.Client() as client:
        search = client.wait(client.submit(spec).id, progress=True)
        if search.error is not None:
            print(f"{search.state}: {search.error.message}", file=sys.stderr)
            return 1
        factors = client.factors(search.id)
    print(factors)
    factors.write(given.output)
    print(given.output)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ropewalk.RopewalkError as error:
        sys.exit(f"{error}")
