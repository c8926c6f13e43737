"""`benchmarks/scoring` with the defaults of a GPU."""

from __future__ import annotations

import functools

from benchmarks.scoring.__main__ import main as measure

main = functools.partial(measure, gpu=True)

if __name__ == "__main__":
    main()
