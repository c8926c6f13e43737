"""Follow several searches at once from one event loop, and write the exports of each.

    ropewalk serve &
    python watch_many.py --model pocket --target-lengths 512 1024 --formats hf vllm --output found

The server is the one that ROPEWALK_URL names, by default http://127.0.0.1:8000.
"""

import argparse
import asyncio
import sys
from pathlib import Path

import ropewalk


async def follow(client: ropewalk.AsyncClient, spec: dict[str, object]) -> ropewalk.Factors:
    """Submit a search and say when it finds something better."""
    search = await client.submit(spec)
    async for event in client.watch(search.id):  # a connection that is lost is made again
        if event.type == "best.improved":
            print(f"{spec['target_length']}: generation {event.data['generation']}, NLL {event.data['nll']:.4f}")
    return await client.factors(search.id)


async def find(given: argparse.Namespace) -> None:
    async with ropewalk.AsyncClient() as client:
        specs: list[dict[str, object]] = [
            {
                "model": given.model,
                "target_length": length,
                "objective": {"documents": given.documents, "validation_documents": given.documents},
                "budget": {"max_trials": given.max_trials},
                "scorer": {"backend": given.backend},
            }
            for length in given.target_lengths
        ]
        for factors in await asyncio.gather(*(follow(client, spec) for spec in specs)):
            for name in given.formats:
                path = given.output / f"{factors.target_length}-{name}.json"
                factors.write(path, format=name)
                print(path)
                for note in factors.notes(name):
                    print(f"  {note}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--target-lengths", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--formats", nargs="+", default=["hf", "vllm"])
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--max-trials", type=int, default=64)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--output", type=Path, default=Path("found"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    asyncio.run(find(given))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ropewalk.RopewalkError as error:
        sys.exit(f"{error}")
