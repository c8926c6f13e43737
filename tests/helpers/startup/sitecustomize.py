"""Python reads this at the start of every process of a test run: `tests/conftest.py` puts the folder on its path.

The collector of cycles looks at what is new after each 700 allocations, and at everything now and then. Importing torch
and transformers makes millions of objects that stay, which costs a sixth more for nothing; most processes that tests
start import them, and live for seconds. Another sixth is scikit-learn, which transformers imports where it is, for
drafts of another model's text, which nobody here asks for.
"""

import gc
import sys

gc.set_threshold(50_000, 20, 20)


class _WithoutDrafts:
    """Finds nothing; sees when transformers is about to look for scikit-learn."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "transformers.generation.candidate_generator":
            vars(sys.modules["transformers.utils"]).update(is_sklearn_available=lambda: False)


sys.meta_path.insert(0, _WithoutDrafts)
