"""Stand-in for the Hugging Face Hub over HTTP: the requests that `huggingface_hub` makes for what segzoo does.

Large files lie on a second server, as on the hub's CDN: behind a redirect to a signed address, without a login. Shapes
of requests and answers: the source of huggingface_hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stand_in import Answer, StandIn, part_of

SIGNATURE = "X-Amz-Signature=secret-of-the-cdn"


@dataclass
class Repository:
    """A repository: commits, of which each has all files, and branches."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], branch: str = "main", message: str = "") -> str:
        """Add a commit with files changed or added; returns its name."""
        whole = {**self.commits.get(self.branches.get(branch, ""), {}), **files}
        made = hashlib.sha1(f"{len(self.commits)}{sorted(whole)}".encode()).hexdigest()
        self.commits[made], self.branches[branch] = whole, made
        self.messages.append(message)
        return made

    def resolve(self, revision: str) -> str | None:
        revision = unquote(revision)
        return revision if revision in self.commits else self.branches.get(revision)


class Hub(StandIn):
    """State of both servers."""

    def clear(self) -> None:
        super().clear()
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.tokens: dict[str, set[str]] = {}  # token to "read" and "write"

    def login(self, *rights: str) -> str:
        """Return a token with these rights."""
        token = f"hf_{hashlib.sha256(' '.join(rights).encode()).hexdigest()[:34]}"
        self.tokens[token] = set(rights)
        return token

    def rights(self, headers: dict[str, str]) -> set[str] | None:
        """Return the rights of who asks; None for a token that nobody has."""
        token = headers.get("authorization", "").removeprefix("Bearer ")
        return set() if not token else self.tokens.get(token)

    def answer(self, server: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if server == "files":
            return self.stored(method, path, headers, body)
        rights = self.rights(headers)
        if rights is None:
            return refusal(401, "Invalid credentials in Authorization header")
        for pattern, serve in _ROUTES:
            if match := re.fullmatch(pattern, f"{method} {path}"):
                return serve(self, rights, body, *match.groups())
        return refusal(404, "no such page")

    def refused(self, name: str, rights: set[str]) -> Answer | None:
        """Return what is said to who may not read a repository, which is the same as where there is none."""
        repository = self.repositories.get(name)
        if repository is None or (repository.private and "read" not in rights):
            return refusal(401 if not rights else 404, "Repository not found", "RepoNotFound")
        if repository.gated and "gated" not in rights:
            said = f"Access to model {name} is restricted. You must be authenticated to access it."
            return refusal(401 if not rights else 403, said, "GatedRepo")
        return None

    def resolve(self, rights: set[str], body: bytes, method: str, name: str, revision: str, file: str) -> Answer:
        if refused := self.refused(name, rights):
            return refused
        repository = self.repositories[name]
        commit = repository.resolve(revision)
        if commit is None:
            return refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        content = repository.commits[commit].get(unquote(file))
        if content is None:
            status, more, text = refusal(404, "Entry not found", "EntryNotFound")
            return status, {**more, "X-Repo-Commit": commit}, text
        if is_large(file):
            digest = hashlib.sha256(content).hexdigest()
            self.blobs.setdefault(digest, content)
            linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content)), "X-Repo-Commit": commit}
            return 302, {**linked, "Location": f"{self.files}/{digest}?{SIGNATURE}"}, b""
        return 200, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}, content

    def create(self, rights: set[str], body: bytes) -> Answer:
        if not rights:
            return refusal(401, "Invalid username or password.")
        if "write" not in rights:
            return refusal(403, "You don't have the rights to create a model under the namespace")
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.repositories:
            said = {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
            return refusal(409, "", body=said)
        self.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.repositories[name].commit({".gitattributes": b"*.h5 filter=lfs\n"})
        return found({"url": f"{self.url}/{name}"})

    def info(self, rights: set[str], body: bytes, name: str) -> Answer:
        if refused := self.refused(name, rights):
            return refused
        repository = self.repositories[name]
        return found({"id": name, "sha": repository.branches["main"], "private": repository.private, "siblings": []})

    def branch(self, rights: set[str], body: bytes, name: str, branch: str) -> Answer:
        repository = self.repositories[name]
        if unquote(branch) in repository.branches:
            return refusal(409, "Reference already exists")
        repository.branches[unquote(branch)] = repository.branches["main"]
        return found({})

    def validate(self, rights: set[str], body: bytes) -> Answer:
        head = json.loads(body)["content"].split("---\n")[1]
        if 'license: "no such licence"' in head:
            return refusal(
                400, "", body={"errors": [{"message": '"license" must be one of ["mit", ...]'}], "warnings": []}
            )
        return found({"errors": [], "warnings": []})

    def preupload(self, rights: set[str], body: bytes, name: str, revision: str) -> Answer:
        if "write" not in rights:
            return refusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if is_large(file["path"]) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        return found({"files": files})

    def batch(self, rights: set[str], body: bytes, name: str) -> Answer:
        objects = []
        for item in json.loads(body)["objects"]:
            upload = {"href": f"{self.files}/{item['oid']}?{SIGNATURE}", "header": {}}
            new = item["oid"] not in self.blobs
            objects.append({**item, "authenticated": True, **({"actions": {"upload": upload}} if new else {})})
        return found({"transfer": "basic", "objects": objects})

    def commit(self, rights: set[str], body: bytes, name: str, revision: str) -> Answer:
        files, message = {}, ""
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.blobs[value["oid"]]
        made = self.repositories[name].commit(files, unquote(revision), message)
        return found({"commitUrl": f"{self.url}/{name}/commit/{made}", "commitOid": made})

    def stored(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer of the second server."""
        digest = path.strip("/")
        if method == "PUT":
            if hashlib.sha256(body).hexdigest() != digest:
                return 400, {}, b""
            self.blobs[digest] = body
            return 200, {}, b""
        return part_of(self.blobs[digest], headers)


_NAME = r"([\w.-]+/[\w.-]+)"
_ROUTES: tuple[tuple[str, Callable[..., Answer]], ...] = (
    (rf"(GET|HEAD) /{_NAME}/resolve/([^/]+)/(.+)", Hub.resolve),
    (r"POST /api/repos/create", Hub.create),
    (rf"GET /api/models/{_NAME}", Hub.info),
    (rf"POST /api/models/{_NAME}/branch/([^/]+)", Hub.branch),
    (r"POST /api/validate-yaml", Hub.validate),
    (rf"POST /api/models/{_NAME}/preupload/([^/]+)", Hub.preupload),
    (rf"POST /{_NAME}\.git/info/lfs/objects/batch", Hub.batch),
    (rf"POST /api/models/{_NAME}/commit/([^/]+)", Hub.commit),
)


def is_large(file: str) -> bool:
    return file.endswith((".h5", ".bin"))


def found(body: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def refusal(status: int, message: str, code: str | None = None, body: Any = None) -> Answer:
    headers = {"Content-Type": "application/json", **({"X-Error-Code": code} if code else {})}
    if message:
        headers["X-Error-Message"] = message
    return status, headers, json.dumps({"error": message} if body is None else body).encode()


def cached(folder: Path) -> list[str]:
    """List the files of a cache, without locks and notes of what is not there."""
    left_out = (".locks", ".no_exist")
    files = [path for path in folder.rglob("*") if path.is_file() and not set(left_out) & set(path.parts)]
    return sorted(path.name for path in files if path.suffix != ".lock" and path.name != "CACHEDIR.TAG")
