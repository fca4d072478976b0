"""What hostile clients try at the gRPC door, and what each of them gets: the second table of docs/security.md.

`python -m peekserve.experiments.attacks_grpc REPO [--json]`

As attacks.py does for HTTP: a server with keys, each attack, and after each an ordinary question over gRPC with a good
key. Calls come from grpcio's own client; what that would never send comes as bytes of HTTP/2 from a socket.
"""

import re
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from peekserve.experiments.attacks import PATIENCE_S, Finding, Target, attacked, command
from peekserve.server.oip import CALLS, MOST_WATCHING
from peekserve.server.oip_messages import OIP

_SERVICE = "/inference.GRPCInferenceService/"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_BYTES = 64 << 20
# What a connection that was ended without a word is written as.
HUNG_UP = "hung up"
# And what one that was neither ended nor told anything: it takes a place, as any client may.
KEPT = "kept open"
_SOON_S = 2.0
Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Attack:
    """`tries`: returns what it got, the name of a status or HUNG_UP, and the words. `gets`: what is right."""

    kind: str
    what: str
    tries: Callable[[Target], tuple[str, str]]
    gets: tuple[str, ...]


def keyed(target: Target) -> Metadata:
    return (("authorization", f"Bearer {target.infer}"),)


def asking(shape: Sequence[int] = (1, 8, 8), raw: bytes | None = None, **more: Any) -> bytes:
    """A ModelInferRequest for an image of digits."""
    request = OIP["ModelInferRequest"](model_name="digits", **more)
    request.inputs.add(name="image", datatype="FP32", shape=shape)
    request.raw_input_contents.append(np.zeros(64, np.float32).tobytes() if raw is None else raw)
    written: bytes = request.SerializeToString()
    return written


def call(
    target: Target,
    method: str,
    content: bytes,
    metadata: Metadata | None = None,
    timeout_s: float | None = PATIENCE_S,
) -> tuple[str, str]:
    """The status of one call, and its words."""
    with _channel(target) as channel:
        ask = channel.unary_unary(method)
        try:
            ask(content, metadata=keyed(target) if metadata is None else metadata, timeout=timeout_s)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


def _channel(target: Target) -> grpc.Channel:
    # Every attack on a connection of its own; the client's own limits are out of the way.
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    options += [("grpc.max_metadata_size", 1 << 24), ("grpc.absolute_max_metadata_size", 1 << 24)]
    return grpc.insecure_channel(target.grpc, options=options)


def infer(content: bytes, **how: Any) -> Callable[[Target], tuple[str, str]]:
    return lambda target: call(target, _SERVICE + "ModelInfer", content, **how)


def sent(parts: Sequence[bytes], patience_s: float = PATIENCE_S) -> Callable[[Target], tuple[str, str]]:
    """What a connection gets that sends these bytes and waits for so long: a status, the end, or neither."""

    def tries(target: Target) -> tuple[str, str]:
        told = b""
        host, _, port = target.grpc.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=patience_s) as client:
            try:
                for part in parts:
                    client.sendall(part)
                while data := client.recv(65536):
                    told += data
            except ConnectionError:
                pass
            except TimeoutError:
                if not _status_in(told):
                    return KEPT, f"for {patience_s:g} s and more"
        return _status_in(told) or HUNG_UP, _goodbye(told)

    return tries


def _status_in(told: bytes) -> str:
    """The status of a call among these frames. The server writes its headers as they are, without Huffman's code."""
    found = re.search(rb"grpc-status[\x01\x02](\d{1,2})", told)
    codes = {code.value[0]: code.name for code in grpc.StatusCode}
    return codes[int(found[1])] if found else ""


def _goodbye(told: bytes) -> str:
    """The words of a GOAWAY among these frames, if there is one."""
    at = 0
    while at + 9 <= len(told):
        size, kind = int.from_bytes(told[at : at + 3], "big"), told[at + 3]
        if kind == 7:
            return told[at + 17 : at + 9 + size].decode(errors="replace")
        at += 9 + size
    return ""


def frame(kind: int, flags: int, stream: int, body: bytes, size: int | None = None) -> bytes:
    """One of HTTP/2 (RFC 9113, section 4.1)."""
    return (len(body) if size is None else size).to_bytes(3, "big") + struct.pack(
        ">BBI", kind, flags, stream
    ) + body  # fmt: skip


_SETTINGS = frame(4, 0, 0, b"")


def _headers(stream: int, *more: tuple[bytes, bytes], flags: int = 4) -> bytes:
    """HEADERS that begin a call of ModelInfer, in literals without an index (RFC 7541, section 6.2.2)."""
    pairs = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", (_SERVICE + "ModelInfer").encode()),
        (b":authority", b"a"), (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more,
    ]  # fmt: skip
    block = b"".join(b"\0" + bytes([len(k)]) + k + bytes([len(v)]) + v for k, v in pairs)
    return frame(1, flags, stream, block)


def waiting(number: int) -> Callable[[Target], tuple[str, str]]:
    """So many calls at once on one connection, with a key, all of which wait for a message that never comes."""

    def tries(target: Target) -> tuple[str, str]:
        key = (b"authorization", f"Bearer {target.infer}".encode())
        calls = [_headers(n, key) for n in range(1, 2 * number, 2)]
        return sent([_PREFACE + _SETTINGS, *calls], 4.0 * _SOON_S)(target)

    return tries


def flood_of_watchers(target: Target) -> tuple[str, str]:
    """Health is watched without a key, by one more than may."""
    with _channel(target) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        streams = [watch(b"", timeout=PATIENCE_S) for _ in range(MOST_WATCHING + 1)]
        status, words = "OK", ""
        for stream in streams:
            try:
                next(stream)
            except grpc.RpcError as error:
                status, words = error.code().name, error.details() or ""
        for stream in streams:
            stream.cancel()
    return status, words


def resets(number: int) -> list[bytes]:
    """Calls that are begun and taken back, without a pause."""
    streams = range(1, 2 * number, 2)
    return [_PREFACE + _SETTINGS, *(_headers(n) + frame(3, 0, n, b"\0\0\0\x08") for n in streams)]


def _twice(target: Target) -> Metadata:
    return (*keyed(target), ("authorization", "Bearer pk_00000000_" + "a" * 43))


ATTACKS: tuple[Attack, ...] = (
    Attack("keys", "no key", infer(asking(), metadata=()), ("UNAUTHENTICATED",)),
    Attack(
        "keys",
        "a key of another server",
        infer(asking(), metadata=(("authorization", "Bearer pk_00000000_" + "a" * 43),)),
        ("UNAUTHENTICATED",),
    ),
    Attack(
        "keys",
        "a key for feedback, to infer",
        lambda t: call(t, _SERVICE + "ModelInfer", asking(), (("authorization", f"Bearer {t.feedback}"),)),
        ("PERMISSION_DENIED",),
    ),
    Attack(
        "keys",
        "a key to infer, to unload a model",
        lambda t: call(
            t,
            _SERVICE + "RepositoryModelUnload",
            OIP["RepositoryModelUnloadRequest"](model_name="digits").SerializeToString(),
        ),
        ("PERMISSION_DENIED",),
    ),
    Attack(
        "keys",
        "reflection without a key",
        lambda t: call(t, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"", ()),
        ("UNAUTHENTICATED",),
    ),
    Attack(
        "metadata",
        "two keys, the right one first",
        lambda t: call(t, _SERVICE + "ModelInfer", asking(), _twice(t)),
        ("UNAUTHENTICATED",),
    ),
    Attack(
        "metadata",
        "two keys, the right one last",
        lambda t: call(t, _SERVICE + "ModelInfer", asking(), _twice(t)[::-1]),
        ("UNAUTHENTICATED",),
    ),
    Attack(
        "metadata",
        "a key in binary metadata",
        lambda t: call(t, _SERVICE + "ModelInfer", asking(), (("authorization-bin", t.infer.encode()),)),
        ("UNAUTHENTICATED",),
    ),
    Attack(
        "metadata",
        "a megabyte of it",
        lambda t: call(t, _SERVICE + "ModelInfer", asking(), (*keyed(t), ("x", "y" * (1 << 20)))),
        ("RESOURCE_EXHAUSTED", "UNAVAILABLE", "INTERNAL"),
    ),
    Attack(
        "metadata",
        "a path that is another method's, in a header",
        lambda t: call(
            t,
            _SERVICE + "RepositoryModelUnload",
            OIP["RepositoryModelUnloadRequest"](model_name="digits").SerializeToString(),
            (
                *keyed(t),
                ("x-original-path", "/grpc.health.v1.Health/Check"),
                ("x-http-method-override", "GET"),
            ),
        ),
        ("PERMISSION_DENIED",),
    ),
    Attack(
        "too much",
        "a message beyond the limit",
        infer(asking(raw=b"\0" * (_BYTES + 1))),
        ("RESOURCE_EXHAUSTED",),
    ),
    Attack("too much", "2^62 rows, 256 bytes", infer(asking((2**62, 8, 8))), ("INVALID_ARGUMENT",)),
    Attack("too much", "a hundred thousand axes", infer(asking([1] * 100_000)), ("INVALID_ARGUMENT",)),
    Attack("too much", f"{2 * CALLS} calls at once", waiting(2 * CALLS), ("CANCELLED", "RESOURCE_EXHAUSTED")),
    Attack(
        "slow clients",
        "1,000 calls at once, none of which sends its message",
        waiting(1000),
        ("DEADLINE_EXCEEDED",),
    ),
    Attack(
        "too much", f"{MOST_WATCHING + 1} that watch the health", flood_of_watchers, ("RESOURCE_EXHAUSTED",)
    ),
    Attack(
        "too much",
        "20,000 calls begun and taken back (CVE-2023-44487)",
        sent(resets(20_000), _SOON_S),
        (HUNG_UP, KEPT),
    ),
    Attack(
        "too much",
        "10,000 pings",
        sent([_PREFACE + _SETTINGS, frame(6, 0, 0, b"12345678") * 10_000]),
        (HUNG_UP,),
    ),
    Attack("malformed", "bytes that are no message", infer(b"\xff" * 100), ("INVALID_ARGUMENT",)),
    Attack(
        "malformed", "a pickle as the message", infer(b"cos\nsystem\n(S'exit 1'\ntR."), ("INVALID_ARGUMENT",)
    ),
    Attack(
        "malformed", "fewer bytes than the shape asks for", infer(asking(raw=b"12")), ("INVALID_ARGUMENT",)
    ),
    Attack("malformed", "a negative axis", infer(asking((-1, 8, 8))), ("INVALID_ARGUMENT",)),
    Attack(
        "malformed",
        "a method that is not there",
        lambda t: call(t, _SERVICE + "../../etc/passwd", b""),
        ("UNIMPLEMENTED",),
    ),
    Attack(
        "malformed",
        "a message said to be compressed, in no known way",
        sent(
            [
                _PREFACE + _SETTINGS + _headers(1, (b"grpc-encoding", b"zip-bomb")),
                frame(0, 1, 1, b"\x01\0\0\0\x04bomb"),
            ],
            _SOON_S,
        ),
        ("UNIMPLEMENTED", "UNAUTHENTICATED", "INTERNAL"),
    ),
    Attack("frames", "HTTP/1.1 at this door", sent([b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"]), (HUNG_UP,)),
    Attack("frames", "random bytes", sent([bytes(range(256)) * 8]), (HUNG_UP,)),
    Attack(
        "frames",
        "a frame of 16 MiB announced",
        sent([_PREFACE + _SETTINGS + frame(0, 0, 1, b"", size=(1 << 24) - 1)]),
        (HUNG_UP,),
    ),
    Attack(
        "frames",
        "data on a stream that nobody began",
        sent([_PREFACE + _SETTINGS + frame(0, 0, 0, b"12345")], _SOON_S),
        (HUNG_UP, KEPT),
    ),
    Attack(
        "frames",
        "headers that go on without an end",
        sent(
            [_PREFACE + _SETTINGS + _headers(1, flags=0)]
            + [frame(9, 0, 1, b"\0\x01x\x7f\x80\x7f" + b"y" * 16_000)] * 200
        ),
        (HUNG_UP,),
    ),
    Attack("slow clients", "a connection that says nothing", sent([]), (HUNG_UP,)),
    Attack("slow clients", "the first half of a greeting", sent([_PREFACE[:10]]), (HUNG_UP,)),
    Attack("deadlines", "0", infer(asking(), timeout_s=0.0), ("DEADLINE_EXCEEDED",)),
    Attack("deadlines", "negative", infer(asking(), timeout_s=-5.0), ("DEADLINE_EXCEEDED",)),
    Attack("deadlines", "a century", infer(asking(), timeout_s=3e9), ("OK",)),
    Attack("deadlines", "none", infer(asking(), timeout_s=None), ("OK",)),
    Attack(
        "deadlines",
        "a header of it that is no time",
        sent([_PREFACE + _SETTINGS + _headers(1, (b"grpc-timeout", b"-1X"), flags=5)], _SOON_S),
        (HUNG_UP, "UNAUTHENTICATED", "INTERNAL", "CANCELLED"),
    ),
)


def tried(target: Target, attack: Attack) -> Finding:
    got, said = attack.tries(target)
    good = OIP["ModelInferRequest"].FromString(asking())
    good.parameters["deadline_ms"].double_param = 2000.0
    stands, _ = call(target, _SERVICE + "ModelInfer", good.SerializeToString())
    return Finding(attack.kind, attack.what, got, " ".join(said.split()), got in attack.gets, stands == "OK")


def run(root: Path, attacks: Sequence[Attack] = ATTACKS) -> list[Finding]:
    """A server of the repository at `root`, and all attacks on it, one after another."""
    with attacked(root) as target:
        return [tried(target, attack) for attack in attacks]


if __name__ == "__main__":
    sys.exit(command("Attack the gRPC door of a server with `digits`.", run, sys.argv[1:]))
