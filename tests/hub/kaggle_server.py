"""Stand-in for Kaggle Models over HTTP: the requests that `kagglehub` makes for what segzoo does.

Files lie on a second server, behind a redirect to a signed address. Shapes of requests and answers: the source of
kagglehub and kagglesdk.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from stand_in import Answer, StandIn, part_of

SIGNATURE = "X-Goog-Signature=secret-of-the-store"
API = "/api/v1/models.ModelApiService/"


class Kaggle(StandIn):
    """State of both servers."""

    def clear(self) -> None:
        super().clear()
        self.models: set[str] = set()
        self.versions: dict[str, list[dict[str, bytes]]] = {}  # owner/model/FRAMEWORK/variation to files by version
        self.facts: list[dict[str, Any]] = []  # what instances and versions were made with
        self.uploads: dict[str, tuple[str, bytes]] = {}  # token to name and content
        self.tokens: dict[str, set[str]] = {}
        self.private: set[str] = set()
        self.damaged = 0  # number of files whose next copy arrives damaged

    def answer(self, server: str, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        if server == "files":
            return self.stored(method, path, headers, body)
        token = headers.get("authorization", "").removeprefix("Bearer ")
        rights = set() if not token else self.tokens.get(token)
        if rights is None:
            return refusal(401, "Unauthenticated")
        name = path.rpartition("/")[2]
        serve = getattr(self, f"on_{name}", None)
        return refusal(404, "no such request") if serve is None else serve(rights, json.loads(body or b"{}"))

    def refused(self, asked: dict[str, Any], rights: set[str]) -> Answer | None:
        model = f"{asked['ownerSlug']}/{asked['modelSlug']}"
        if model in self.private and "read" not in rights:
            return refusal(403, "Permission 'models.get' was denied")
        return None if model in self.models else refusal(404, "Not found")

    def on_GetModel(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        return self.refused(asked, rights) or found({"slug": asked["modelSlug"]})

    def on_CreateModel(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        if "write" not in rights:
            return refusal(401 if not rights else 403, "Permission 'models.create' was denied")
        self.models.add(f"{asked['ownerSlug']}/{asked['slug']}")
        self.facts.append({"private": asked["isPrivate"]})
        return found({})

    def on_CreateModelInstance(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        body = asked["body"]
        name = instance({**asked, "framework": body["framework"], "instanceSlug": body["instanceSlug"]})
        if name in self.versions:
            return found({"error": "The model instance already exists", "errorCode": 409})
        return self._made(name, body)

    def on_CreateModelInstanceVersion(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        return self._made(instance(asked), asked["body"])

    def _made(self, name: str, body: dict[str, Any]) -> Answer:
        self.versions.setdefault(name, []).append(dict(self.uploads[file["token"]] for file in body["files"]))
        self.facts.append({key: body.get(key) for key in ("licenseName", "versionNotes")})
        return found({})

    def on_GetModelInstance(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        if refused := self.refused(asked, rights):
            return refused
        versions = self.versions.get(instance(asked))
        return refusal(404, "Not found") if versions is None else found({"versionNumber": len(versions)})

    def on_DownloadModelInstanceVersion(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        if refused := self.refused(asked, rights):
            return refused
        versions, number = self.versions.get(instance(asked), []), asked["versionNumber"]
        if number > len(versions) or asked["path"] not in versions[number - 1]:
            return refusal(404, "Not found")
        place = f"{instance(asked)}/{number}/{asked['path']}"
        return 302, {"Location": f"{self.files}/{place}?{SIGNATURE}"}, b""

    def on_StartBlobUpload(self, rights: set[str], asked: dict[str, Any]) -> Answer:
        token = f"upload-{len(self.uploads)}"
        self.uploads[token] = (asked["name"], b"")
        return found({"token": token, "createUrl": f"{self.files}/{token}?{SIGNATURE}"})

    def stored(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Answer of the second server."""
        if method == "PUT":
            token = path.strip("/")
            self.uploads[token] = (self.uploads[token][0], body)
            return 200, {}, b""
        name, number, file = path.strip("/").rsplit("/", 2)
        content = self.versions[name][int(number) - 1][file]
        status, more, part = part_of(content, headers)
        digest = base64.b64encode(hashlib.md5(content).digest()).decode()
        if self.damaged:
            self.damaged, part = self.damaged - 1, part[::-1]
        return status, {**more, "x-goog-hash": f"crc32c=AAAAAA==,md5={digest}"}, part


def instance(asked: dict[str, Any]) -> str:
    framework = asked["framework"].removeprefix("MODEL_FRAMEWORK_").lower()
    return f"{asked['ownerSlug']}/{asked['modelSlug']}/{framework}/{asked['instanceSlug']}"


def found(body: Any) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def refusal(status: int, message: str) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps({"code": status, "message": message}).encode()
