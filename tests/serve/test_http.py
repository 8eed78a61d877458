import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.serve.conftest import Plant

HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"


def post(body: bytes, *lines: bytes) -> bytes:
    return HEAD + b"".join(x + b"\r\n" for x in lines) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def statuses(heard: bytes) -> list[int]:
    return [int(p[:3]) for p in heard.split(b"HTTP/1.1 ")[1:]]


def test_pipelined_requests_are_answered_in_order(served: "Plant", row: dict[str, Any]) -> None:
    bodies = [json.dumps(row | {"distance": d}).encode() for d in (-9, 9, -9, 9)]
    requests = [post(b) for b in bodies]
    requests.insert(2, b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    requests.append(post(b"{", b"Connection: close"))
    heard = served.speak(b"".join(requests))
    assert statuses(heard) == [200, 200, 200, 200, 200, 400]
    labels = [p for p in (b"no", b"yes", b"fairlead") for _ in range(heard.count(b'"%b"' % p))]
    assert labels == [b"no", b"no", b"yes", b"yes", b"fairlead"]
    places = [heard.index(p) for p in (b'"no"', b'"yes"', b'"fairlead"')]
    assert places == sorted(places) and b"connection: close" in heard


def test_a_head_seen_before_means_the_same(served: "Plant", row: dict[str, Any]) -> None:
    body = json.dumps(row).encode()
    request = post(body)
    with socket.create_connection(("127.0.0.1", served.port), timeout=5) as line:
        for cut in (len(request), len(request), 30, len(request) - 5, len(request), 1):
            line.sendall(request[:cut])
            if cut < len(request):
                time.sleep(0.01)
                line.sendall(request[cut:])
            heard = line.recv(65536)
            assert statuses(heard) == [200] and b'"score"' in heard
        # The same bytes inside a body are a body.
        inner = json.dumps(row | {"carrier": request.decode()}).encode()
        line.sendall(post(inner)[:200])
        time.sleep(0.01)
        line.sendall(post(inner)[200:])
        assert statuses(line.recv(65536)) == [200]


def test_chunked_expect_and_old_versions(served: "Plant", row: dict[str, Any]) -> None:
    body = json.dumps(row).encode()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (body[:9], body[9:])) + b"0\r\n\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
    assert statuses(served.speak(chunked)) == [200]
    heard = served.speak(post(body, b"Expect: 100-continue", b"Connection: close"))
    assert statuses(heard) == [100, 200]
    assert statuses(served.speak(post(body, b"Expect: cake"))) == [417]
    old = b"POST /predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    assert statuses(served.speak(old)) == [200]
    heard = served.speak(post(body, b"Upgrade: h2c", b"Connection: Upgrade"))
    assert statuses(heard) == [400] and b"HTTP_1_1" in heard
    half = socket.create_connection(("127.0.0.1", served.port), timeout=5)
    with half:
        half.sendall(post(body))
        half.shutdown(socket.SHUT_WR)
        heard = b"".join(iter(lambda: half.recv(65536), b""))
    assert statuses(heard) == [200]


def test_what_is_not_http_is_refused(served: "Plant") -> None:
    both = HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    twice = HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"
    for bad in (both, twice, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00",
                HEAD + b"Content-Length: -1\r\n\r\n", HEAD + b"Bad Name: x\r\n\r\n",
                b"GET /v2 HTTP/1.1\r\n\r\n",
                b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"):  # fmt: skip
        assert statuses(served.speak(bad)) == [400], bad
    assert statuses(served.speak(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000
                                 + b"\r\n\r\n")) == [431]  # fmt: skip
    assert statuses(served.speak(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000)) == [431]
    many = b"".join(b"X%d: 1\r\n" % i for i in range(150))
    assert statuses(served.speak(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")) == [431]


def test_bodies_have_a_cap(served: "Plant") -> None:
    heard = served.speak(HEAD + b"Content-Length: 300000000\r\n\r\n" + b"x" * 1000)
    assert statuses(heard) == [413] and b"max_body_kb" in heard
    chunk = b"2710\r\n" + b"x" * 10_000 + b"\r\n"
    assert statuses(served.speak(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 40)) == [413]
    assert statuses(served.speak(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")) == [413]
    trailer = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: " + b"a" * 5_000_000
    assert statuses(served.speak(trailer)) == [413]


def test_only_declared_doors_open(served: "Plant") -> None:
    for path in ("/", "//predict", "/predict/", "/predict;x", "/v2/health/ready/x", "/%70redict",
                 "/v2/models/other/infer", "/metrics/health/ready", "/predict%2f"):  # fmt: skip
        assert served.ask(path=path)[0] == 404
        assert served.ask(b"{}", path)[0] == 404
    status, body = served.ask(path="/predict")
    assert status == 405 and "POST" in body["error"]["hint"]
    assert served.ask(b"", "/v2/health/live", "DELETE")[0] == 405
    assert served.ask(path="/pedict")[1]["error"]["hint"] == "did you mean /predict?"
    assert served.ask(path="/v2?x=1")[0] == 200
    for headers in ({"Host": "evil.example"}, {"Host": "localhost", "Origin": "http://evil.example"}):
        for path in ("/predict", "/status", "/v2/health/live"):
            assert served.ask(path=path, method="POST" if path == "/predict" else "", **headers)[0] == 403
    assert served.ask(path="/v2", Host="localhost:1", Origin="http://127.0.0.1:3000")[0] == 200


def test_slow_callers_are_ended_and_others_served(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start(limits={"head_seconds": 0.5, "body_seconds": 0.5, "idle_seconds": 0.75,
                        "write_seconds": 0.5, "connections": 60})  # fmt: skip
    starts = {"silent": b"", "head": HEAD, "body": HEAD + b"Content-Length: 10\r\n\r\n{",
              "idle": b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"}  # fmt: skip
    heard: dict[str, tuple[float, bytes]] = {}

    def attack(name: str, start: bytes) -> None:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", plant.port), timeout=10) as line:
            line.sendall(start)
            found = b""
            while chunk := line.recv(65536):
                found += chunk
        heard[name] = time.monotonic() - began, found

    threads = [threading.Thread(target=attack, args=x) for x in starts.items()]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        assert plant.ask(row)[0] == 200
    assert {n: statuses(f) for n, (_, f) in heard.items()} == {
        "silent": [], "head": [408], "body": [408], "idle": [200]}  # fmt: skip
    assert all(0.4 < seconds < 3.0 for seconds, _ in heard.values())
    lines = [socket.create_connection(("127.0.0.1", plant.port)) for _ in range(70)]
    assert 503 in statuses(plant.speak(post(b"{}", b"Connection: close")))
    for line in lines:
        line.close()
    plant.wait(lambda: plant.counted("fairlead_connections") < 5)


def test_a_caller_that_does_not_read_is_cut_off(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    plant.start(limits={"write_seconds": 0.5})
    with socket.create_connection(("127.0.0.1", plant.port), timeout=5) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request, ended = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50, False
        line.setblocking(False)
        end = time.monotonic() + 8
        while time.monotonic() < end and not ended:
            try:
                line.send(request)
            except BlockingIOError:
                time.sleep(0.01)
            except (ConnectionResetError, BrokenPipeError):
                ended = True
    assert ended and plant.ask(row)[0] == 200
    assert plant.counted("fairlead_resident_bytes") < 150e6


def test_open_to_the_network_needs_a_token(plant: "Plant", row: dict[str, Any]) -> None:
    plant.publish(plant.package())
    token = plant.root / "token"
    token.write_text("secret\n")
    plant.start(host="0.0.0.0", token_file=str(token))
    assert plant.ask(row)[0] == 401 and plant.ask(path="/metrics")[0] == 401
    assert plant.ask(row, Authorization="Bearer secre")[0] == 401
    assert plant.ask(row, Authorization="Bearer secret")[0] == 200
    assert plant.ask(path="/v2/health/ready")[0] == 200
