"""What is kept of a tokenizer does what transformers does; several threads may load and use one."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import processors
from transformers import AutoTokenizer

from evaluation.models.source import load_tokenizer, resolve_model
from evaluation.models.tokenizer import BackendTokenizer, HFTokenizer
from tests.helpers.paths import POCKET
from tests.helpers.tokenizers import as_transformers

FIRST_LOADS = """
import threading
from evaluation.models.source import load_tokenizer, resolve_model
barrier = threading.Barrier(4)
failures = []
def load():
    barrier.wait()
    try:
        load_tokenizer(resolve_model("pocket"))
    except BaseException as error:
        failures.append(repr(error))
threads = [threading.Thread(target=load) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
raise SystemExit("; ".join(failures) or 0)
"""


def test_four_threads_may_load_the_first_tokenizer_of_a_process(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}  # nothing is kept there
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LOADS], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert {file.name.partition("-")[0] for file in (tmp_path / "ropewalk").iterdir()} == {"rotary", "tokenizer"}


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = load_tokenizer(resolve_model("pocket"))
    texts = [f"The magic number for word{i} is {i:07d}. " * 200 for i in range(16)]
    alone = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts * 4)) == alone * 4


TEXTS = [
    "",
    "The magic number for river is 1234567.\n",
    "</s> and <s><|endoftext|> are text,\tünïcode, 漢字 and \U0001f600 too  ",
    " leading, \r\n\n\n and a nul \0",
]


def _both(theirs: object) -> tuple[HFTokenizer, BackendTokenizer]:
    slow = HFTokenizer(theirs)
    reading = slow.reading()
    assert reading is not None
    return slow, BackendTokenizer(reading)


@pytest.fixture(scope="module", params=["pocket", "without BOS", "with BOS", "names a BOS"])
def both(request: pytest.FixtureRequest, backend: Backend) -> tuple[HFTokenizer, BackendTokenizer]:
    """A tokenizer with transformers, and what is kept of it."""
    if request.param == "pocket":
        return _both(AutoTokenizer.from_pretrained(POCKET))
    copy = Backend.from_str(backend.to_str())
    if request.param == "with BOS":
        copy.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return _both(as_transformers(copy, **({} if request.param == "without BOS" else {"bos_token": "<s>"})))


@given(text=st.sampled_from(TEXTS) | st.text(max_size=60))
def test_what_is_kept_encodes_and_decodes_as_transformers_does(
    both: tuple[HFTokenizer, BackendTokenizer], text: str
) -> None:
    theirs, kept = both
    ids = theirs.encode(text)
    assert kept.encode(text) == ids
    assert kept.decode(ids) == theirs.decode(ids)
    assert kept.decode([0, 1, *ids, 1]) == theirs.decode([0, 1, *ids, 1])


def test_what_is_kept_has_the_same_bos_and_identity(both: tuple[HFTokenizer, BackendTokenizer]) -> None:
    theirs, kept = both
    assert (kept.bos_token_id, kept.fingerprint) == (theirs.bos_token_id, theirs.fingerprint)


def test_a_call_in_between_is_no_part_of_the_identity(backend: Backend) -> None:
    theirs = as_transformers(Backend.from_str(backend.to_str()))
    before = HFTokenizer(theirs).fingerprint
    theirs("some text", truncation=True, max_length=2)
    assert HFTokenizer(theirs).fingerprint == before
    _, kept = _both(theirs)
    assert len(kept.encode("some text that is longer than that")) > 2
