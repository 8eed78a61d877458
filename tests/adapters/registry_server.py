"""A small OCI registry in one process: TLS, basic or token login, mounts between repositories.

``registry_server.py CERTIFICATE KEY basic|token|none LOG`` prints its port; LOG gets a line per request.
"""

import hashlib
import json
import re
import ssl
import sys
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

CERTIFICATE, KEY, LOGIN, LOG = sys.argv[1:5]
BASIC = "Basic " + b64encode(b"ann:secret").decode()
PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<kind>blobs/uploads|blobs|manifests|referrers)/(?P<what>.*)")


class Registry(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    blobs: dict[tuple[str, str], bytes] = {}
    manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
    uploads: dict[str, bytes] = {}
    tokens: dict[str, list[str]] = {}

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def say(self, status: int, data: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        query = {k: v for k, v in parse_qs(parts.query).items()}
        with open(LOG, "a") as log:
            log.write(f"{self.command} {self.path}\n")
        if parts.path == "/token":
            return self.token(query)
        found = PATH.fullmatch(parts.path)
        if found is None:
            return self.say(404)
        near = query.get("from", [""])[0]
        if not self.allowed(found["name"], near):
            return None
        kind = {"blobs/uploads": self.upload, "blobs": self.blob, "manifests": self.manifest,
                "referrers": self.referrers}[found["kind"]]  # fmt: skip
        return kind(found["name"], found["what"], body, query)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = answer

    def token(self, query: dict[str, list[str]]) -> None:
        if self.headers.get("authorization") != BASIC:
            return self.say(401)
        made = f"t{len(self.tokens)}"
        self.tokens[made] = query["scope"]
        return self.say(200, json.dumps({"token": made}).encode())

    def allowed(self, name: str, near: str) -> bool:
        """Whether what is shown opens `name` (and `near`, to mount from); a challenge is sent if not."""
        shown = self.headers.get("authorization", "")
        if LOGIN == "none" or (LOGIN == "basic" and shown == BASIC):
            return True
        if LOGIN == "basic":
            self.say(401, WWW_Authenticate='Basic realm="r"')
            return False
        scopes = self.tokens.get(shown.removeprefix("Bearer "), [])
        wanted = [f"repository:{name}:pull,push", *([f"repository:{near}:pull"] if near else [])]
        if set(wanted) <= set(scopes):
            return True
        realm = f"https://{self.headers['host']}/token"
        self.say(401, WWW_Authenticate=f'Bearer realm="{realm}",service="r",scope="{wanted[0]}"')
        return False

    def blob(self, name: str, digest: str, body: bytes, query: dict[str, list[str]]) -> None:
        held = self.blobs.get((name, digest))
        if held is None:
            return self.say(404)
        start = int((self.headers.get("range") or "bytes=0-")[6:-1])
        return self.say(206 if start else 200, held[start:])

    def upload(self, name: str, number: str, body: bytes, query: dict[str, list[str]]) -> None:
        where = f"/v2/{name}/blobs/uploads/{number or len(self.uploads)}"
        if self.command == "POST":
            mounted = self.blobs.get((query.get("from", [""])[0], query.get("mount", [""])[0]))
            if mounted is not None:
                self.blobs[name, query["mount"][0]] = mounted
                return self.say(201, Location="")
            self.uploads[str(len(self.uploads))] = b""
            return self.say(202, Location=where)
        if self.command == "PATCH":
            self.uploads[number] += body
            return self.say(202, Location=where)
        digest = f"sha256:{hashlib.sha256(self.uploads[number]).hexdigest()}"
        if query["digest"] != [digest]:
            return self.say(400)
        self.blobs[name, digest] = self.uploads[number]
        return self.say(201)

    def manifest(self, name: str, reference: str, body: bytes, query: dict[str, list[str]]) -> None:
        if self.command != "PUT":
            kind, data = self.manifests.get((name, reference), ("", b""))
            return self.say(200, data, Content_Type=kind) if data else self.say(404)
        digest, document = f"sha256:{hashlib.sha256(body).hexdigest()}", json.loads(body)
        for at in (reference, digest):
            self.manifests[name, at] = (self.headers["content-type"], body)
        told: dict[str, Any] = {"OCI_Subject": document["subject"]["digest"]} if "subject" in document else {}
        return self.say(201, **told)

    def referrers(self, name: str, digest: str, body: bytes, query: dict[str, list[str]]) -> None:
        found = {
            f"sha256:{hashlib.sha256(d).hexdigest()}": (k, d) for (n, _), (k, d) in self.manifests.items()
            if n == name and json.loads(d).get("subject", {}).get("digest") == digest
        }  # fmt: skip
        listed = [{"mediaType": k, "digest": at, "size": len(d), "artifactType": json.loads(d)["artifactType"]}
                  for at, (k, d) in found.items()]  # fmt: skip
        kind = "application/vnd.oci.image.index.v1+json"
        self.say(200, json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": listed}).encode(), Content_Type=kind)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever(0.05)
