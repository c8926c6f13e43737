"""Which tests share a process when there are several."""

from __future__ import annotations

import functools
import re

from xdist.scheduler import LoadScopeScheduling

from tests.helpers.paths import ROOT

# Read off the text: the process that distributes tests has not imported them. Nothing but the time depends on it.
_SHARES_A_CLUSTER = re.compile(r"\bray_cluster\b|\bScoringPool\b")
_TRAINS = re.compile(r"\bray\.train\b")  # a start of Ray Train takes as long as all that the others do
_STARTS_RAY = re.compile(r"\bimport ray\b|\bensure_ray\b|helpers\.server_process\b")

# Where only the tests of one parameter belong together: a family's share its checkpoint.
_BY_PARAMETER = ("tests/families/test_scoring.py", "tests/families/test_training.py")


class TwoClusters(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Files that share a cluster go to one process, and those that start Ray for themselves to another, after them the
    one that trains on a cluster, so that there are two at once and no more, and both end at about the same time; any
    other file stays together, for what its tests share, and so do a family's tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        of_family = nodeid.partition("[")[2] if file.startswith(_BY_PARAMETER) else ""
        return _ray(file) or of_family or file


@functools.cache
def _ray(file: str) -> str | None:
    text = (ROOT / file).read_text(encoding="utf-8")
    if _SHARES_A_CLUSTER.search(text) and not _TRAINS.search(text):
        return "the shared cluster"
    return "clusters of their own" if _STARTS_RAY.search(text) or _TRAINS.search(text) else None
