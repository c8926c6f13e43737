"""Tables of what a spec can name: one row each, and the rows that installed packages bring.

A package adds rows through an entry point, whose object is a row and whose name is the row's::

    [project.entry-points."ropewalk.strategies"]
    mine = "my_package:ROW"
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from ropewalk.names import did_you_mean

logger = logging.getLogger("ropewalk.registry")


class Row(Protocol):
    """What every table knows of its rows; `summary` is one line, for help texts and documentation."""

    @property
    def name(self) -> str:
        """What a spec writes."""

    @property
    def summary(self) -> str:
        """What it is, as a clause without a full stop."""


RowT = TypeVar("RowT", bound=Row)


class Registry(Mapping[str, RowT], Generic[RowT]):
    """Rows by name, ours first, in the order given.

    `what` names the field that chooses a row, for messages; `refusal` makes the error of an unknown name. With a
    `group`, entry points of that group add rows of type `kind`. One that cannot be loaded, is no such row or takes a
    name that is there leaves the others in place: `problems` says why, and so does whoever asks for it by name.
    """

    def __init__(
        self, what: str, *rows: RowT, refusal: Callable[[str], Exception], kind: type[RowT], group: str | None = None
    ) -> None:
        self._what = what
        self._own = {row.name: row for row in rows}
        self._refusal = refusal
        self._kind = kind
        self._group = group

    @cached_property
    def _all(self) -> tuple[dict[str, RowT], dict[str, str]]:
        """Rows and problems. Read at the first question, so that importing a table imports no package's code."""
        rows, problems = dict(self._own), dict[str, str]()
        for entry in importlib.metadata.entry_points(group=self._group) if self._group else ():
            try:
                rows[entry.name] = self._checked(entry.name, entry.load(), rows)
            except Exception as error:  # whatever a package's import raises must not end a server
                problems[entry.name] = f"{entry.value}: {type(error).__name__}: {error}"
                logger.warning("the entry point %s of %s adds nothing: %s", entry.name, self._group, error)
        return rows, problems

    def _checked(self, name: str, row: object, rows: Mapping[str, RowT]) -> RowT:
        if not isinstance(row, self._kind):
            raise TypeError(f"an entry point must be a {self._kind.__name__}, but got {type(row).__name__}")
        if row.name != name:
            raise ValueError(f"an entry point must have its row's name, {row.name!r}, but got {name!r}")
        if name in rows:
            raise ValueError(f"the name of an added row must be new, but {name!r} is there already")
        return row

    @property
    def own(self) -> Mapping[str, RowT]:
        """The rows of this program alone; asking imports no package's code, so help texts may."""
        return self._own

    @property
    def problems(self) -> Mapping[str, str]:
        """Entry points that add nothing, by name, with the reason."""
        return self._all[1]

    def find(self, name: str) -> RowT:
        """The row called `name`, or the table's refusal with the names that there are."""
        rows, problems = self._all
        if name in rows:
            return rows[name]
        because = (
            f"; that entry point cannot be used: {problems[name]}" if name in problems else did_you_mean(name, rows)
        )
        raise self._refusal(f"{self._what} must be one of {', '.join(rows)}, but got {name!r}{because}")

    def described(self) -> str:
        """Every row as "name: summary", for help texts."""
        return "; ".join(f"{row.name}: {row.summary}" for row in self.values())

    def __getitem__(self, name: str) -> RowT:
        return self._all[0][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all[0])

    def __len__(self) -> int:
        return len(self._all[0])
