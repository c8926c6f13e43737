"""Submit a search over REST, follow it to its end, and take the factors away.

    ropewalk serve &
    python examples/watch_a_search.py --model pocket --target-length 512 --max-trials 64

Prints a line whenever a better candidate is found, then the verdict; writes factors.json and pictures of the search.
"""

import argparse
import sys
from pathlib import Path

from api.drawing.search import draw_search
from ropewalk.client.errors import ApiError, ServerUnreachable
from ropewalk.client.sync import Client
from ropewalk.wire.reports import SearchReport


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--target-length", type=int, default=512)
    parser.add_argument("--max-trials", type=int, default=64)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, default=Path("found"))
    given = parser.parse_args()
    spec = {
        "model": given.model,
        "target_length": given.target_length,
        "budget": {"max_trials": given.max_trials},
        "scorer": {"backend": given.backend},
    }
    with Client() as client:  # ROPEWALK_URL and ROPEWALK_API_KEY, or the server on this machine
        search = client.submit(spec)
        print(f"submitted {search.id}")
        for event in client.watch(search.id):  # a connection that is lost is made again
            if event.type == "best.improved":
                print(f"generation {event.data['generation']}: NLL {event.data['nll']:.4f}")
        search = client.get(search.id)
        if search.error is not None:
            print(f"{search.state}: {search.error.message}", file=sys.stderr)
            return 1
        print(search.report(SearchReport).statement)
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / "factors.json").write_text(client.export(search.id), encoding="utf-8")
        print(given.output / "factors.json")
        for picture in draw_search(given.output, client.pictures(search.id)).values():
            print(picture)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ApiError, ServerUnreachable) as error:
        sys.exit(f"{error}")
