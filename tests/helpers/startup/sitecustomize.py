"""Python reads this at the start of every process of a test run: `tests/conftest.py` puts the folder on its path.

The collector of cycles looks at what is new after each 700 allocations, and at everything now and then. Importing torch
and transformers makes millions of objects that stay, which costs a sixth more for nothing; most processes that tests
start import them, and live for seconds.
"""

import gc

gc.set_threshold(50_000, 20, 20)
