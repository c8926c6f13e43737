"""A corpus's splits, divided once: the division of 8 million characters takes 15 seconds, and jobs share their texts.

They are kept by the text's hash, for this process in memory and for later ones on disk.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from pathlib import Path

from evaluation.documents import splitting
from evaluation.documents.needle import SPLITS, Split
from evaluation.models.readings import keep, recall

QUICK_CHARACTERS = 500_000  # divided and tokenised in about a second
_IN_MEMORY, _ON_DISK = 4, 8  # corpora
_KIND = "splits"

_known: OrderedDict[str, dict[Split, str]] = OrderedDict()
_guard = threading.Lock()


def divide(text: str) -> dict[Split, str]:
    """What :func:`evaluation.documents.splitting.split_lines` makes of `text`."""
    key = _key(text)
    with _guard:
        if (found := _known.get(key)) is not None:
            _known.move_to_end(key)
            return found
    texts = _recalled(key)
    if texts is None:
        texts = splitting.split_lines(text)
        if len(text) > QUICK_CHARACTERS:
            keep(key, texts, most=_ON_DISK)
    with _guard:
        _known[key] = texts
        while len(_known) > _IN_MEMORY:
            _known.popitem(last=False)
    return texts


def _key(text: str) -> str:
    """Of the text and of the rule that divides it."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    digest.update(Path(splitting.__file__).read_bytes())
    return f"{_KIND}-{digest.hexdigest()}"


def _recalled(key: str) -> dict[Split, str] | None:
    kept = recall(key)
    if not isinstance(kept, dict) or not all(isinstance(kept.get(split), str) for split in SPLITS):
        return None
    return {split: kept[split] for split in SPLITS}
