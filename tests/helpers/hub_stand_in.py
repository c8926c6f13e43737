"""The part of the Hugging Face Hub's API that models are fetched and pushed by, over real HTTP, in its own process.

Repositories and their commits are kept in memory. `GET /stand-in` tells all that happened, for tests alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from tests.helpers.paths import ROOT

USERS = {"hf_writer": ("ada", ("lab",), True), "hf_reader": ("bob", (), False)}
"""By token: name, organizations, and whether the token may write."""
LFS_SUFFIXES, LFS_BYTES = (".safetensors", ".gguf", ".bin"), 1000
"""What is uploaded on its own, and not within the commit."""


@dataclass
class Repository:
    """`commits`: files by path of each; `log`: hashes and titles, oldest first."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    log: list[dict[str, object]] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], title: str, description: str) -> str:
        """A commit on `branch`, with `files` over those that it had."""
        whole = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        sha = hashlib.sha1(repr((sorted(whole.items()), title, len(self.log))).encode()).hexdigest()
        self.commits[sha], self.branches[branch] = whole, sha
        self.log.append({"sha": sha, "branch": branch, "title": title, "description": description})
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit of a branch, a tag or a commit."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class Answer(Exception):
    """Ends a request with a status and, where the Hub sends one, its error code."""

    def __init__(self, status: int, code: str = "", message: str = "refused") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    """Routes by the parts of the path; `repositories` and `blobs` are the process's."""

    protocol_version = "HTTP/1.1"
    repositories: ClassVar[dict[str, Repository]] = {}
    blobs: ClassVar[dict[str, bytes]] = {}

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_PUT(self) -> None:
        self.blobs[self.path.rsplit("/", 1)[-1]] = self._body()
        self._send(200, b"")

    def _answer(self, how: Callable[[list[str]], None]) -> None:
        try:
            how([unquote(part) for part in urlsplit(self.path).path.split("/")[1:]])
        except Answer as answer:
            body = json.dumps({"error": str(answer)}).encode()
            self._send(answer.status, body, {"X-Error-Code": answer.code, "X-Error-Message": str(answer)})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _user(self) -> tuple[str, tuple[str, ...], bool] | None:
        return USERS.get(self.headers.get("authorization", "").removeprefix("Bearer "))

    def _writer(self, owner: str) -> None:
        user = self._user()
        if user is None:
            raise Answer(401, message="Invalid username or password.")
        if not user[2] or owner not in (user[0], *user[1]):
            raise Answer(403, message=f"You don't have the rights to create a model under the namespace {owner}")

    def _found(self, name: str) -> Repository:
        if name not in self.repositories:
            raise Answer(404 if self._user() else 401, "RepoNotFound", "Repository not found")
        if name.endswith("-gated") and self._user() is None:
            raise Answer(401, "GatedRepo", f"Access to model {name} is restricted")
        return self.repositories[name]

    def _at(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self._found(name)
        sha = repository.resolve(revision)
        if sha is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha, repository.commits[sha]

    def _get(self, parts: list[str]) -> None:
        match parts:
            case ["stand-in"]:
                told = {
                    name: {"private": one.private, "log": one.log, "branches": one.branches}
                    for name, one in self.repositories.items()
                }
                self._json(told)
            case ["api", "whoami-v2"]:
                user = self._user()
                if user is None:
                    raise Answer(401, message="Invalid username or password.")
                self._json({"type": "user", "name": user[0], "orgs": [{"name": name} for name in user[1]]})
            case ["api", "models", owner, name, *rest] if rest[:1] != ["tree"]:
                sha, files = self._at(f"{owner}/{name}", rest[1] if rest else "main")
                model: dict[str, object] = {
                    "id": f"{owner}/{name}",
                    "sha": sha,
                    "private": self._found(f"{owner}/{name}").private,
                    "siblings": [{"rfilename": path} for path in files],
                    "cardData": _metadata(files.get("README.md", b"").decode()),
                }
                self._json(model)
            case ["api", "models", owner, name, "tree", revision]:
                _, files = self._at(f"{owner}/{name}", revision)
                self._json([_entry(path, data) for path, data in files.items()])
            case [owner, name, "resolve", revision, *path]:
                sha, files = self._at(f"{owner}/{name}", revision)
                data = files.get("/".join(path))
                if data is None:
                    raise Answer(404, "EntryNotFound", "Entry not found")
                etag = f'"{hashlib.sha1(data).hexdigest()}"'
                self._send(200, data, {"ETag": etag, "X-Repo-Commit": sha, "Accept-Ranges": "none"})
            case _:
                raise Answer(404, message="no such route")

    def _post(self, parts: list[str]) -> None:
        body = self._body()
        match parts:
            case ["api", "validate-yaml"]:
                self._validate(json.loads(body)["content"])
            case ["api", "repos", "create"]:
                self._create(json.loads(body))
            case ["api", "models", owner, name, "branch", branch]:
                self._writer(owner)
                repository = self._found(f"{owner}/{name}")
                repository.branches.setdefault(branch, repository.branches["main"])
                self._json({})
            case ["api", "models", owner, name, "preupload", revision]:
                self._writer(owner)
                _, there = self._at(f"{owner}/{name}", revision)
                files = [
                    {
                        "path": one["path"],
                        "uploadMode": "lfs" if _is_large(one["path"], one["size"]) else "regular",
                        "shouldIgnore": False,
                        "oid": _entry(one["path"], there[one["path"]])["oid"] if one["path"] in there else None,
                    }
                    for one in json.loads(body)["files"]
                ]
                self._json({"files": files})
            case [owner, git, "info", "lfs", "objects", "batch"] if git.endswith(".git"):
                self._writer(owner)
                host = self.headers["host"]
                objects = [
                    {**one, "actions": {"upload": {"href": f"http://{host}/lfs/{one['oid']}"}}}
                    for one in json.loads(body)["objects"]
                ]
                self._json({"transfer": "basic", "objects": objects})
            case ["api", "models", owner, name, "commit", revision]:
                self._writer(owner)
                self._at(f"{owner}/{name}", revision)
                self._commit(f"{owner}/{name}", revision, [json.loads(line) for line in body.splitlines()])
            case _:
                raise Answer(404, message="no such route")

    def _validate(self, card: str) -> None:
        errors = [] if _metadata(card) else [{"message": "no metadata"}]
        body = json.dumps({"errors": errors, "warnings": []}).encode()
        self._send(400 if errors else 200, body, {"Content-Type": "application/json"})

    def _create(self, asked: dict[str, object]) -> None:
        user = self._user()
        owner = str(asked.get("organization") or (user[0] if user else ""))
        self._writer(owner)
        name = f"{owner}/{asked['name']}"
        url = f"http://{self.headers['host']}/{name}"
        if name in self.repositories:
            self._send(409, json.dumps({"error": "You already created this model repo", "url": url}).encode())
            return
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.repositories[name] = Repository(private=private)
        self.repositories[name].commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit", "")
        self._json({"url": url, "id": name})

    def _commit(self, name: str, branch: str, lines: list[dict[str, Any]]) -> None:
        files: dict[str, bytes] = {}
        header = {"summary": "", "description": ""}
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    header = value
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.blobs[value["oid"]]
        sha = self.repositories[name].commit(branch, files, header["summary"], header.get("description", ""))
        self._json({"commitUrl": f"http://{self.headers['host']}/{name}/commit/{sha}", "commitOid": sha})


def _metadata(card: str) -> dict[str, object] | None:
    found = yaml.safe_load(card.split("---\n", 2)[1]) if card.startswith("---\n") else None
    return found if isinstance(found, dict) else None


def _is_large(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) and size > LFS_BYTES


def _entry(path: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(data), "oid": blob}
    if _is_large(path, len(data)):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


@contextmanager
def hub_stand_in() -> Iterator[str]:
    """A Hub in a process of its own; its address, for HF_ENDPOINT."""
    command = [sys.executable, "-m", "tests.helpers.hub_stand_in"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def use_hub(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, which has imported the library already, use the Hub at `url` with an empty cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in takes files by LFS alone
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
