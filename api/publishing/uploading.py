"""The upload to the Hugging Face Hub, with its library; whatever goes wrong is one line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from api.errors import PushRefused
from api.publishing.contents import Content
from evaluation.models.hub import HubName
from ropewalk.client.errors import BadInput

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Destination:
    """Where to: "owner/name", or "name" of the token's own; revision None: its main branch."""

    repository: str
    revision: str | None = None
    private: bool = False
    message: str = ""

    @classmethod
    def of(cls, to: str, *, revision: str | None, private: bool, message: str) -> Destination:
        """Raises BadInput: no name of a repository, or of a branch, or no message."""
        name = HubName.of(to)
        if name is None:
            raise BadInput(
                f"--to must be org/name: letters, digits, '-', '_' and '.', no '--' and no '..', but got {to!r}"
            )
        if name.revision is not None:
            raise BadInput(f"--to must be a repository alone, but got {to!r}: give --revision {name.revision}")
        if revision is not None and (HubName.of(f"a/b@{revision}") is None or _COMMIT.fullmatch(revision) is not None):
            raise BadInput(f"--revision must be the name of a branch, but got {revision!r}")
        if not message.strip():
            raise BadInput("--commit-message must not be empty")
        return cls(repository=to, revision=revision, private=private, message=message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pushed:
    """What is there now."""

    repository: str
    commit: str
    url: str


def check_ready(destination: Destination) -> Destination:
    """With the owner where none was given. Asks the Hub who the token is of.

    Raises:
        PushRefused: no token, a token that the Hub does not know or that may not write there, or no Hub.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.constants import ENDPOINT, is_offline_mode

    if is_offline_mode():
        raise PushRefused("push needs the Hub, but HF_HUB_OFFLINE is set: unset it")
    if get_token() is None:
        raise PushRefused(f"push needs a token of {ENDPOINT} that may write: set HF_TOKEN, or run `hf auth login`")
    with _told("the token of HF_TOKEN or `hf auth login` is not known there"):
        who = HfApi().whoami()
    user, organizations = str(who["name"]), [str(one["name"]) for one in who.get("orgs", ())]
    owner, slash, _ = destination.repository.partition("/")
    if not slash:
        return replace(destination, repository=f"{user}/{destination.repository}")
    if owner not in (user, *organizations):
        member = f", a member of {', '.join(organizations)}" if organizations else ", a member of no organization"
        raise PushRefused(f"--to must be of the token's user, {user}{member}, but got {destination.repository!r}")
    return destination


def upload(contents: Sequence[Content], destination: Destination) -> Pushed:
    """Make the repository and the branch where there are none, and all files one commit.

    Raises:
        PushRefused: the Hub refuses or fails, in one line.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    api, name = HfApi(), destination.repository
    may = f"the token must be one that may write to {name}"
    with _told(may):
        api.create_repo(name, private=destination.private or None, exist_ok=True)
        if destination.private and not api.model_info(name).private:
            raise PushRefused(f"--private is for repositories that are private, but {name} is there and is public")
        if destination.revision is not None and not api.revision_exists(name, destination.revision):
            api.create_branch(name, branch=destination.revision, exist_ok=True)
        operations = [
            CommitOperationAdd(one.path, one.source.encode() if isinstance(one.source, str) else str(one.source))
            for one in contents
        ]
        done = api.create_commit(name, operations, commit_message=destination.message, revision=destination.revision)
    return Pushed(repository=name, commit=done.oid, url=done.commit_url)


def license_of(base: HubName) -> Mapping[str, str]:
    """As the card of a model on the Hub says; nothing where there is no Hub, no such model, or no license."""
    from huggingface_hub import HfApi

    try:
        card = HfApi().model_info(base.repository, revision=base.revision, timeout=10).card_data
    except Exception:  # no network, in the words of whichever library was asked
        return {}
    known: Mapping[str, object] = {} if card is None else vars(card)
    names = ("license", "license_name", "license_link")
    return {name: text for name in names if isinstance(text := known.get(name), str)}


@contextmanager
def _told(may: str) -> Iterator[None]:
    """Raise what the library raises as PushRefused; `may`: what a refused token means here."""
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except PushRefused:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = " ".join((error.server_message or str(error).split("\n")[0]).split())
        if status in (401, 403):
            raise PushRefused(f"{may}, but {ENDPOINT} refuses it ({status}): {said}") from error
        raise PushRefused(f"{ENDPOINT} must take the upload, but answers {status}: {said}") from error
    except Exception as error:  # no network, in the words of whichever library was asked
        cause = error.__cause__ or error
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise PushRefused(f"{ENDPOINT} must be reachable, but is not: {reason}") from error
