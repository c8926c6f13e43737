"""Assigning a text to splits that share nothing.

Documentation, books and web pages repeat themselves: a sentence that search and validation both hold would let a
search fit the very text that it is judged on. So blocks are assigned first, and what is repeated across splits is then
removed from all of them but one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.documents.needle import SPLITS, Split

WINDOW = 40  # no run of this many characters may be in two splits
BLOCK_CHARACTERS = 6_000
_MIN_BLOCK_CHARACTERS = 400
# Train 20 %, search 40 %, validation 40 %; the two that are compared lie next to each other everywhere.
_CYCLE: tuple[Split, ...] = ("validation", "search", "train", "search", "validation")
# Which split keeps a text that several hold. Validation is the one that claims rest on.
_KEEPERS: tuple[Split, ...] = ("validation", "search", "train")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def split_lines(text: str) -> dict[Split, str]:
    """Deal `text` out: no window of WINDOW characters is in two of the texts given back."""
    lines: dict[Split, list[str]] = {split: [] for split in SPLITS}
    for index, block in enumerate(_blocks(_without_repeats(text))):
        lines[_CYCLE[index % len(_CYCLE)]].extend(block)
    kept = np.zeros(0, dtype=np.uint64)
    for split in _KEEPERS:
        lines[split] = without_windows(lines[split], kept)
        kept = np.sort(np.concatenate([kept, window_hashes("".join(lines[split]))]))
    return {split: "".join(mine) for split, mine in lines.items()}


def window_hashes(text: str) -> NDArray[np.uint64]:
    """A 64-bit polynomial hash of every window of WINDOW characters of `text`, (len(text) - WINDOW + 1,).

    Equal windows have equal hashes, so a repeat is never missed; two different windows share one by a chance of
    about 1e-19, which costs a line of text.
    """
    characters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    count = max(len(characters) - WINDOW + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(WINDOW):
        hashes *= _MULTIPLIER
        hashes += characters[offset : offset + count] + np.uint64(1)
    return hashes


def _without_repeats(text: str) -> list[str]:
    """The lines of `text`, each paragraph only where it comes first."""
    seen: set[str] = set()
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if paragraph not in seen:
            seen.add(paragraph)
            lines.extend(f"{paragraph}\n\n".splitlines(keepends=True))
    return lines


def _blocks(lines: list[str]) -> list[list[str]]:
    """Contiguous runs of lines of about BLOCK_CHARACTERS, shorter in a short text so that every split gets some."""
    total = sum(map(len, lines))
    size = min(BLOCK_CHARACTERS, max(_MIN_BLOCK_CHARACTERS, total // (4 * len(_CYCLE))))
    blocks: list[list[str]] = [[]]
    filled = 0
    for line in _cut_long(lines, size):
        # A block ends between paragraphs where there is one, and at any line once it is half as long again.
        if filled >= size and (line == "\n" or filled >= size + size // 2):
            blocks.append([])
            filled = 0
        blocks[-1].append(line)
        filled += len(line)
    return blocks


def _cut_long(lines: list[str], size: int) -> list[str]:
    """Lines longer than a block (a text without line ends) are cut after a word."""
    pieces: list[str] = []
    for line in lines:
        while len(line) > size:
            cut = line.rfind(" ", 1, size) + 1 or size
            pieces.append(line[:cut])
            line = line[cut:]
        pieces.append(line)
    return pieces


def without_windows(lines: list[str], taken: NDArray[np.uint64]) -> list[str]:
    """Drop the lines in which a window in `taken` (sorted) ends; again for the windows that the gaps create.

    Dropping the line where a window ends breaks the window. After the first round only windows across a new gap are
    new, so the work is that of the text once and of its gaps, however many rounds they take.
    """
    chain = _Chain(lines)
    last = np.flatnonzero(_is_in(window_hashes("".join(lines)), taken)) + WINDOW - 1
    dropped = set(np.searchsorted(_ends(lines), last, side="right").tolist())
    while dropped:
        dropped = chain.ends_across(chain.drop(dropped), taken)
    return chain.left()


class _Chain:
    """Lines of which some are dropped, each with its neighbours: -1 and len(lines) lie beyond the ends."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._before = list(range(-1, len(lines)))
        self._after = list(range(1, len(lines) + 1))
        self._dropped: set[int] = set()

    def left(self) -> list[str]:
        """The lines that were not dropped."""
        return [line for index, line in enumerate(self._lines) if index not in self._dropped]

    def drop(self, dropped: set[int]) -> list[int]:
        """Take lines out; returns the line after each gap that this leaves between two lines."""
        moved = set()
        for index in dropped:
            before, after = self._before[index], self._after[index]
            self._before[after] = before
            if before >= 0:
                self._after[before] = after
            moved.add(after)
        self._dropped |= dropped
        return sorted(at for at in moved - dropped if at < len(self._lines) and self._before[at] >= 0)

    def ends_across(self, gaps: list[int], taken: NDArray[np.uint64]) -> set[int]:
        """The lines after each gap in which a window in `taken` ends that begins before the gap."""
        owners: list[int] = []
        pieces: list[str] = []
        borders: list[int] = []
        for gap in gaps:
            after = self._lines_after(gap)
            owners += [-1, *(index for index, _ in after)]
            pieces += [self._text_before(gap), *(text for _, text in after)]
            borders.append(len(pieces))
        ends = _ends(pieces)
        hashes = window_hashes("".join(pieces))
        own_end = ends[np.array(borders, dtype=np.int64) - 1]
        starts = np.arange(len(hashes))
        # Neither side of a gap holds a window alone, so that one within a gap's text crosses the gap.
        within = starts + WINDOW <= own_end[np.searchsorted(own_end, starts, side="right")]
        last = np.flatnonzero(within & _is_in(hashes, taken)) + WINDOW - 1
        return {owners[piece] for piece in np.searchsorted(ends, last, side="right").tolist()}

    def _text_before(self, gap: int) -> str:
        text, index = "", self._before[gap]
        while index >= 0 and len(text) < WINDOW - 1:
            text, index = self._lines[index] + text, self._before[index]
        return text[-(WINDOW - 1) :]

    def _lines_after(self, gap: int) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        index, wanted = gap, WINDOW - 1
        while index < len(self._lines) and wanted > 0:
            found.append((index, self._lines[index][:wanted]))
            wanted, index = wanted - len(self._lines[index]), self._after[index]
        return found


def _ends(texts: list[str]) -> NDArray[np.int64]:
    return np.cumsum([len(text) for text in texts], dtype=np.int64)


def _is_in(hashes: NDArray[np.uint64], taken: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """np.isin for a sorted `taken`; a search by halves, as numpy's hash table is 10 times slower on such numbers."""
    if not len(taken):
        return np.zeros(len(hashes), dtype=np.bool_)
    found = np.searchsorted(taken, hashes).clip(max=len(taken) - 1)
    same: NDArray[np.bool_] = taken[found] == hashes
    return same
