"""A client of a running service on this machine, found by what `fairlead serve` left in `.fairlead/run`."""

import http.client
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, Missing, Unavailable
from fairlead.settings import STATE, token

__all__ = ["Client", "found"]

TIMEOUT = 30.0
KINDS: dict[int, type[FairleadError]] = {401: Forbidden, 403: Forbidden, 404: Missing, 409: Conflict}
SHOW = "put a token into FAIRLEAD_TOKEN, or name its file with --token-file"


class Where(msgspec.Struct, frozen=True):
    """`.fairlead/run/serve.json`."""

    port: int
    pid: int = 0
    host: str = "127.0.0.1"


class Asks(msgspec.Struct, frozen=True):
    """What `.fairlead/run/gateway.json` says of callers."""

    token_file: str = ""


class Client:
    """One request per connection; answers are decoded JSON."""

    def __init__(self, host: str, port: int, token: str = "") -> None:
        self.host, self.port, self.token = host, port, token
        self._own = {"authorization": f"Bearer {token}"} if token else {}

    @property
    def url(self) -> str:
        """``http://127.0.0.1:8080``."""
        return f"http://{self.host}:{self.port}"

    def get(self, path: str) -> Any:
        """Raises what `post` raises."""
        return self._ask("GET", path, b"", {})

    def text(self, path: str) -> str:
        """An answer that is no JSON. Raises what `post` raises."""
        status, data = self._send("GET", path, b"", {})
        return data.decode(errors="replace") if status < 400 else str(_decoded(status, data))

    def post(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> Any:
        """Raises Unavailable when nobody answers or the service cannot, else the error it names:
        Forbidden (401, 403), Missing (404), Conflict (409), Invalid (other 4xx)."""
        return self._ask("POST", path, body, {"content-type": "application/json", **(headers or {})})

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
        return _decoded(*self._send(method, path, body, headers))

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT)
        try:
            connection.request(method, path, body or None, {**self._own, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self.url} does not answer: {error}",
                              hint="is `fairlead serve` running?") from None  # fmt: skip
        finally:
            connection.close()


def found(root: Path) -> Client:
    """The service that runs for the project in `root`, with the token it asks for.

    Raises Unavailable when there is none.
    """
    run = root / STATE / "run"
    try:
        where = msgspec.json.decode((run / "serve.json").read_bytes(), type=Where)
        asks = msgspec.json.decode((run / "gateway.json").read_bytes(), type=Asks)
        shown = Path(asks.token_file).read_text().strip() if asks.token_file else token()
    except (OSError, msgspec.DecodeError):
        raise Unavailable(f"no service is running for {root.name}",
                          hint="start it with `fairlead serve` in another terminal") from None  # fmt: skip
    return Client(where.host, where.port, shown)


def _decoded(status: int, data: bytes) -> Any:
    try:
        body = msgspec.json.decode(data)
    except msgspec.DecodeError:
        raise Unavailable(f"the answer ({status}) is not JSON", hint="does another program use this port?") from None  # fmt: skip
    if status < 400:
        return body
    said = body.get("error", {}) if isinstance(body, dict) else {}
    if not isinstance(said, dict):
        said = {"message": str(said)}
    kind = KINDS.get(status, Invalid if status < 500 else Unavailable)
    pointer = said.get("pointer") or ""
    text = said.get("message") or f"status {status}"
    raise kind(f"{text} (at {pointer})" if pointer and pointer not in text else text,
               hint=SHOW if status == 401 else said.get("hint") or "", pointer=pointer)  # fmt: skip
