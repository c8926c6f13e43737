"""The token in the server's home, by which a server without keys knows its operator."""

import contextlib
import os
import secrets
from pathlib import Path

from ropewalk.client.token import TOKEN_FILE
from storage.errors import StorageNotWritable


def ensure_token(home: Path) -> str:
    """The token of this home, made at the first time; its file is readable for its owner alone.

    Raises:
        StorageNotWritable: it cannot be read or made.
    """
    path = home / TOKEN_FILE
    made = home / f".{TOKEN_FILE}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        if not path.exists():
            descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
            with contextlib.suppress(FileExistsError):  # another server of this home was first
                os.link(made, path)
            made.unlink()
        path.chmod(0o600)
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise StorageNotWritable(
            f"the server's token must be readable and private, but {path} is not: {reason}"
        ) from error
