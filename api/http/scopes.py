"""Who sends a request, and which scope it needs."""

import re
from dataclasses import dataclass

from ropewalk.wire.kinds import KINDS
from storage.records import SCOPES
from storage.records import Scope as KeyScope

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
WEBHOOKS, AUDIT, PLAN = "/v1/webhooks", "/v1/audit", "/plan"
_COLLECTION = f"/v1/(?:{'|'.join(row.collection for row in KINDS.values())})"
JOB_PATH = re.compile(rf"(?:{_COLLECTION}|/jobs)/(?P<id>[^/:]+)(?:[/:]|$)")
FOR_ALL = re.compile(
    rf"/|{PLAN}|{_COLLECTION}(?::plan)?|/v1/models:inspect|{WEBHOOKS}(?:/.*)?"
)  # of nobody's job alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who sent a request. Idempotency keys belong to a principal, jobs to its owner."""

    name: str
    scopes: frozenset[KeyScope]
    owner: str

    def may(self, scope: KeyScope) -> bool:
        """Whether this principal has `scope`; admin has every scope."""
        return scope in self.scopes or "admin" in self.scopes

    @property
    def sees(self) -> str | None:
        """Whose jobs it sees in lists: its own, or None: all."""
        return None if self.may("read") else self.owner

    @property
    def names(self) -> str | None:
        """Whose jobs its specs may name: its own, or None: all."""
        return None if self.may("read") or self.may("submit") else self.owner


NOBODY = Principal(name="nobody", scopes=frozenset(), owner="nobody")
ANYONE_LOCAL = Principal(name="local", scopes=frozenset(SCOPES), owner="local")


def scope_for(method: str, path: str) -> KeyScope:
    """What a request needs: what is deleted nobody brings back. Webhooks are those of who submits."""
    if path == AUDIT:
        return "admin"
    if path == PLAN:  # reads models that a spec names, as the plans of the API do
        return "submit"
    if path == WEBHOOKS or path.startswith(f"{WEBHOOKS}/"):
        return "submit"
    if method in READING_METHODS:
        return "read"
    return "admin" if method == "DELETE" else "submit"
