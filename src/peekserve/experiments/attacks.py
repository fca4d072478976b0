"""What hostile clients try, and what each of them gets: docs/security.md's table.

`python -m peekserve.experiments.attacks REPO [--json]`

Serves a prepared repository that has the application `digits`, with keys, and lets each attack at it; after each of
them somebody with a good key asks an ordinary question. An attack that gets another status than it should, or after
which that question goes unanswered, is marked and makes the command fail.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from peekserve.cli.launch import ServerProcess

PATIENCE_S = 20.0
BODY_WAIT = "1s"
_INFER = "/v2/models/digits/infer"
_HANGS_UP = 0  # the connection ends without a status


@dataclass(frozen=True, slots=True)
class Target:
    """`infer`, `feedback`, `admin`: keys with that scope. `grpc`: the other door. `state`: where it may write."""

    host: str
    port: int
    infer: str
    feedback: str
    grpc: str = ""
    admin: str = ""
    pid: int = 0
    state: str = ""


@dataclass(frozen=True, slots=True)
class Attack:
    """`sends`: the bytes, in parts. `gets`: the statuses that are right."""

    kind: str
    what: str
    sends: Callable[[Target], Sequence[bytes]]
    gets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """`status`: of the answer, 0 for none, a word at the gRPC door; `said`: its sentence. `held`: is the status right?
    `stands`: is an ordinary request answered after it?"""

    kind: str
    what: str
    status: int | str
    said: str
    held: bool
    stands: bool


def post(path: str, body: bytes, *headers: str, key: str = "", length: int | None = None) -> Sequence[bytes]:
    lines = [f"POST {path} HTTP/1.1", "host: a", *headers]
    lines += [f"authorization: Bearer {key}"] if key else []
    lines += [f"content-length: {len(body) if length is None else length}"]
    return ["\r\n".join(lines).encode() + b"\r\n\r\n" + body]


def get(path: str, key: str = "", *headers: str) -> Sequence[bytes]:
    lines = [f"GET {path} HTTP/1.1", "host: a", *headers]
    lines += [f"authorization: Bearer {key}"] if key else []
    return ["\r\n".join(lines).encode() + b"\r\n\r\n"]


def asking(shape: Sequence[int], data: object = (), datatype: str = "FP32", name: str = "image") -> bytes:
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], "parameters": {"deadline_ms": 2000}}).encode()


def _binary(shape: Sequence[int], size: int, sent: bytes) -> tuple[bytes, str]:
    tensor = {"name": "image", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + sent, f"inference-header-content-length: {len(head)}"


def good() -> bytes:
    return asking([1, 8, 8], np.zeros(64).tolist())


def _sized(shape: Sequence[int], size: int, sent: bytes = b"") -> Callable[[Target], Sequence[bytes]]:
    body, header = _binary(shape, size, sent)
    return lambda t: post(_INFER, body, header, key=t.infer)


def _pickled() -> bytes:
    # What would run `exit 1` in a server that unpickled it; nothing here does.
    return b"cos\nsystem\n(S'exit 1'\ntR."


ATTACKS: tuple[Attack, ...] = (
    Attack("keys", "no key", lambda t: post(_INFER, good()), (401,)),
    Attack(
        "keys",
        "a key of another server",
        lambda t: post(_INFER, good(), key="pk_00000000_" + "a" * 43),
        (401,),
    ),
    Attack("keys", "a right key cut short", lambda t: post(_INFER, good(), key=t.infer[:-1]), (401,)),
    Attack(
        "keys",
        "a key of 20,000 characters",
        lambda t: post(_INFER, good(), key="pk_a_" + "b" * 20_000),
        (401,),
    ),
    Attack("keys", "a key for feedback, to infer", lambda t: post(_INFER, good(), key=t.feedback), (403,)),
    Attack(
        "keys",
        "a key to infer, to load a model",
        lambda t: post("/v2/repository/models/digits/load", b"{}", key=t.infer),
        (403,),
    ),
    Attack("keys", "a key in the address", lambda t: get(f"/v2/models/digits?api_key={t.infer}"), (401,)),
    Attack("traversal", "../ in a path", lambda t: get("/v2/models/../../../../etc/passwd", t.infer), (404,)),
    Attack(
        "traversal",
        "../ in a path, in percent",
        lambda t: get("/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", t.infer),
        (404,),
    ),
    Attack(
        "traversal",
        "../ as a stream's name",
        lambda t: post("/api/v1/streams/digits/..%2f..%2fx", b"{}", key=t.infer),
        (404,),
    ),
    Attack(
        "traversal", "a name with a zero byte", lambda t: get("/v2/models/digits%00.onnx", t.infer), (404,)
    ),
    Attack(
        "huge shapes",
        "2^62 rows, no data",
        lambda t: post(_INFER, asking([2**62, 8, 8]), key=t.infer),
        (400,),
    ),
    Attack(
        "huge shapes",
        "axes whose product overflows 64 bits",
        lambda t: post(_INFER, asking([2**32, 2**32, 2**32]), key=t.infer),
        (400,),
    ),
    Attack(
        "huge shapes",
        "a hundred thousand axes",
        lambda t: post(_INFER, asking([1] * 100_000), key=t.infer),
        (400,),
    ),
    Attack("huge shapes", "a negative axis", lambda t: post(_INFER, asking([-1, 8, 8]), key=t.infer), (400,)),
    Attack(
        "huge shapes",
        "binary: 4 GiB announced, 8 bytes sent",
        _sized([2**20, 8, 8], 2**32, b"12345678"),
        (400,),
    ),
    Attack(
        "huge shapes",
        "binary: fewer bytes than the shape asks for",
        _sized([1, 8, 8], 8, b"12345678"),
        (400,),
    ),
    Attack(
        "huge shapes",
        "binary: a header longer than the body",
        lambda t: post(_INFER, b"{}", "inference-header-content-length: 999999", key=t.infer),
        (400,),
    ),
    Attack("bad JSON", "100,000 nested lists", lambda t: post(_INFER, b"[" * 100_000, key=t.infer), (400,)),
    Attack(
        "bad JSON",
        "tensor data nested 100,000 deep",
        lambda t: post(
            _INFER, asking([1, 8, 8]).replace(b"[]", b"[" * 100_000 + b"]" * 100_000), key=t.infer
        ),
        (400,),
    ),
    Attack(
        "bad JSON",
        "a number of 100,000 digits",
        lambda t: post(_INFER, asking([1, 8, 8]).replace(b"[]", b"[" + b"9" * 100_000 + b"]"), key=t.infer),
        (400,),
    ),
    Attack(
        "bad JSON",
        "bytes that are no UTF-8",
        lambda t: post(_INFER, b'{"inputs": "\xff\xfe"}', key=t.infer),
        (400,),
    ),
    Attack(
        "bad JSON",
        "a deadline that is an object",
        lambda t: post(_INFER, good().replace(b"2000", b'{"a": 1}'), key=t.infer),
        (400,),
    ),
    Attack("pickle", "a pickle as the body", lambda t: post(_INFER, _pickled(), key=t.infer), (400,)),
    Attack(
        "pickle",
        "a pickle as a tensor of BYTES",
        lambda t: post(_INFER, asking([1], [_pickled().decode()], "BYTES"), key=t.infer),
        (400,),
    ),
    Attack(
        "archive bombs",
        "a body in gzip",
        lambda t: post(_INFER, b"\x1f\x8b" + b"\0" * 100, "content-encoding: gzip", key=t.infer),
        (415,),
    ),
    Attack(
        "archive bombs",
        "a zip as the body",
        lambda t: post(_INFER, b"PK\x03\x04" + b"\0" * 100, key=t.infer),
        (400,),
    ),
    Attack(
        "too much",
        "a body of 10 GiB announced",
        lambda t: post(_INFER, b"x", key=t.infer, length=10 << 30),
        (413,),
    ),
    Attack(
        "too much",
        "a body in chunks without an end",
        lambda t: [*_chunked(t), *[b"100000\r\n" + b"x" * 0x100000 + b"\r\n"] * 70],
        (413,),
    ),
    Attack(
        "too much",
        "headers without an end",
        lambda t: [b"GET /v2 HTTP/1.1\r\nhost: a\r\n", *[b"x: " + b"y" * 9000 + b"\r\n"] * 40],
        (431,),
    ),
    Attack(
        "too much",
        "a thousand header fields",
        lambda t: get("/v2", t.infer, *[f"h{i}: v" for i in range(1000)]),
        (431,),
    ),
    Attack(
        "slow clients",
        "a body of which half comes",
        lambda t: post(_INFER, b"{", key=t.infer, length=1000),
        (408,),
    ),
    Attack(
        "slow clients",
        "a body that never begins",
        lambda t: post(_INFER, b"", key=t.infer, length=1000),
        (408,),
    ),
    Attack("slow clients", "a head that never ends", lambda t: [b"GET /v2 HTTP/1.1\r\nhost: a\r\n"], (408,)),
    Attack("slow clients", "a connection that says nothing", lambda t: [], (408,)),
    Attack(
        "smuggling",
        "Content-Length and Transfer-Encoding",
        lambda t: post(
            _INFER, b"0\r\n\r\nGET /v2 HTTP/1.1\r\n\r\n", "transfer-encoding: chunked", key=t.infer
        ),
        (400,),
    ),
    Attack(
        "smuggling",
        "two lengths that differ",
        lambda t: post(_INFER, b"{}", "content-length: 50", key=t.infer),
        (400,),
    ),
    Attack(
        "smuggling",
        "a length with a sign",
        lambda t: [b"POST /v2 HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello"],
        (400,),
    ),
    Attack(
        "smuggling", "a space in a field's name", lambda t: [b"GET /v2 HTTP/1.1\r\nhost : a\r\n\r\n"], (400,)
    ),
    Attack("smuggling", "a zero byte in a field", lambda t: get("/v2", t.infer, "x: a\0b"), (400,)),
    Attack(
        "smuggling",
        "bytes of TLS at a plain door",
        lambda t: [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
        (400,),
    ),
    Attack("smuggling", "HTTP/2 without asking", lambda t: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], (400, 505)),
)


def _chunked(target: Target) -> Sequence[bytes]:
    head = f"POST {_INFER} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {target.infer}\r\n"
    return [head.encode() + b"transfer-encoding: chunked\r\n\r\n"]


def tried(target: Target, attack: Attack) -> Finding:
    status, said = answered(target, attack.sends(target))
    stands, _ = answered(target, post(_INFER, good(), key=target.infer))
    return Finding(attack.kind, attack.what, status, said, status in attack.gets, stands == 200)


def answered(target: Target, parts: Sequence[bytes]) -> tuple[int, str]:
    """The status and the sentence of what a server says to these bytes; 0 where it hangs up without a word."""
    with socket.create_connection((target.host, target.port), timeout=PATIENCE_S) as client:
        told = b""
        try:
            for part in parts:
                client.sendall(part)
            while chunk := client.recv(65536):
                told += chunk
                if _whole(told):
                    break
        except (ConnectionError, TimeoutError):
            # A reset may come before what was said can be read: what is in the way then is not lost.
            pass
    head, _, body = told.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1."):
        return _HANGS_UP, ""
    try:
        said = str(json.loads(body).get("error", ""))
    except ValueError:
        said = body[:80].decode(errors="replace")
    return int(head.split()[1]), said


def _whole(told: bytes) -> bool:
    head, end, body = told.partition(b"\r\n\r\n")
    lengths = [
        line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    return bool(end) and bool(lengths) and len(body) >= int(lengths[0])


def run(root: Path, attacks: Sequence[Attack] = ATTACKS) -> list[Finding]:
    """A server of the repository at `root`, and all attacks on it, one after another."""
    with attacked(root) as target:
        return [tried(target, attack) for attack in attacks]


@contextmanager
def attacked(root: Path, **more: str) -> Iterator[Target]:
    """A server of the repository at `root` with keys of its own, and with these settings, too."""
    with tempfile.TemporaryDirectory() as folder:
        # Something to climb out of.
        state = Path(folder) / "a" / "b" / "state"
        state.mkdir(parents=True)
        infer, feedback, admin = (_key(root, str(state), name) for name in ("infer", "feedback", "admin"))
        settings = {"state": str(state), "limits.body_wait": BODY_WAIT, "log": "error", "grpc": "127.0.0.1:0"}
        _copy_profiles(root, state)
        with ServerProcess(root, settings | more, state / "server.log") as server:
            host, _, port = server.http.rpartition(":")
            door = str(server.told["grpc"])
            yield Target(host, int(port), infer, feedback, door, admin, server.pid, str(state))


def _key(root: Path, state: str, scope: str) -> str:
    command = [sys.executable, "-m", "peekserve.cli.main", "keys", "add", str(root), scope]
    command += ["--scopes", scope, "--state", state]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _copy_profiles(root: Path, state: Path) -> None:
    for file in (root / ".peekserve").glob("state.sqlite*"):
        shutil.copy(file, state / file.name)


def table(findings: Sequence[Finding]) -> str:
    lines = ["| attack | | got | with the words |", "| --- | --- | --- | --- |"]
    for f in findings:
        mark = "" if f.held and f.stands else " **(wrong)**"
        said = f.said.replace("|", "\\|")[:110]
        lines.append(f"| {f.kind} | {f.what} | {f.status or 'hung up'}{mark} | {said} |")
    return "\n".join(lines)


def command(what: str, attack: Callable[[Path], Sequence[Finding]], arguments: Sequence[str]) -> int:
    """Read the command line of a list of attacks, try them, print what they got; 1 if one got what it should not."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("repository", type=Path, help="of peekserve demo --prepare, profiled")
    parser.add_argument("--json", action="store_true", help="for machines")
    given = parser.parse_args(arguments)
    if not (given.repository / "digits").is_dir():
        parser.error(f"{given.repository} is no repository with the application 'digits'")
    findings = attack(given.repository)
    print(json.dumps([asdict(f) for f in findings]) if given.json else table(findings))
    return 0 if all(f.held and f.stands for f in findings) else 1


if __name__ == "__main__":
    sys.exit(command("Attack a server of a repository with `digits`.", run, sys.argv[1:]))
