"""A server prepares several jobs at once: the tokenizer and its library must bear that."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from evaluation.models.source import load_tokenizer, resolve_model

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


def test_four_threads_may_load_the_first_tokenizer_of_a_process() -> None:
    done = subprocess.run([sys.executable, "-c", FIRST_LOADS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_may_share_a_tokenizer() -> None:
    tokenizer = load_tokenizer(resolve_model("pocket"))
    texts = [f"The magic number for word{i} is {i:07d}. " * 200 for i in range(16)]
    alone = [tokenizer.encode(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(tokenizer.encode, texts * 4)) == alone * 4
