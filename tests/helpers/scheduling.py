"""Which tests share a process when there are two."""

from __future__ import annotations

import functools
import re

from xdist.scheduler import LoadScopeScheduling

from tests.helpers.paths import ROOT

# Read off the text: the process that distributes tests has not imported them. Nothing but the time depends on it.
_STARTS_RAY = re.compile(r"\bimport ray\b|\bensure_ray\b|\bray_cluster\b|helpers\.server_process\b|\bScoringPool\b")


class OneCluster(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Files that start Ray go to one process, which so needs one cluster at a time; any other file stays together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if _starts_ray(file) else file


@functools.cache
def _starts_ray(file: str) -> bool:
    return bool(_STARTS_RAY.search((ROOT / file).read_text(encoding="utf-8")))
