"""What hostile clients upload, and what each of them gets: the third table of docs/security.md.

`python -m peekserve.experiments.attacks_uploads REPO [--json]`

As attacks.py does for inference: a server with keys, each attack, and after each an ordinary question with a good key.
Most come with a key for `admin`: who may bring models may not do anything else to the machine. After each, too:
nothing was written but in the state folder, nothing of it is left on the way in, no process that was begun for it
lives, and the server's own process never held more memory than an upload may have.
"""

import gzip
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from peekserve.experiments import hostile_files as hostile
from peekserve.experiments.attacks import Finding, Target, answered, attacked, command, good, post
from peekserve.experiments.hostile_uploads import (
    ADMIN,
    GZIP,
    MIB,
    TAR,
    UPLOAD,
    ZIP,
    Tries,
    Watch,
    application,
    archive,
    brought_down,
    hangs_up,
    in_chunks,
    load,
    load_by_grpc,
    looking,
    outside,
    removed,
    sent,
    sent_long,
    several,
    slowly,
    until_it_hangs,
    without_room,
)

# The server's own process, beyond what it had before: as much as one upload, and not what it unpacks to.
MOST_MEMORY = UPLOAD
_CLEARED_S = 5.0
_GUEST = f"{ADMIN}/guest"
_DIGITS = f"{ADMIN}/digits"
_TAKEN = ("ready",)


@dataclass(frozen=True, slots=True)
class Attack:
    """`tries`: returns what it got, a status or the state that its revision ended in, and the words. `gets`: what is
    right."""

    kind: str
    what: str
    tries: Tries
    gets: tuple[int | str, ...]


def _bad_names() -> Sequence[tuple[str, Tries, tuple[int | str, ...]]]:
    """Names that lead elsewhere, or might on other file systems."""
    named = {
        "../pwned": "../",
        "a/../../../../pwned": "../ further on",
        "/pwned": "an absolute one",
        "..\\..\\pwned": "with backslashes",
        "\u202efig.yaml": "one that is written backwards",
        "a" * 300: "one of 300 letters",
        "/".join("a" * 40): "40 folders deep",
    }
    return [(f"tar: {what}", archive(partial(hostile.names, [name])), (400,)) for name, what in named.items()]


def _header(size: bytes, kind: bytes = tarfile.REGTYPE) -> Tries:
    return archive(
        lambda: gzip.compress(hostile.raw_header("validation.npz", kind, size) + bytes(1024)), GZIP
    )


def _link(kind: bytes, to: str = "", name: str = "validation.npz") -> Tries:
    files = hostile.around()
    files.pop("validation.npz")
    return archive(lambda: hostile.tar(files, hostile.member(name, kind, to)))


# By kind: what it is, how it is tried, and what is right.
_BY_KIND: Mapping[str, Sequence[tuple[str, Tries, tuple[int | str, ...]]]] = {
    "keys": [
        ("no key", sent("POST", f"{_GUEST}/revisions", b"x", TAR, ""), (401,)),
        ("a key to infer", sent("POST", f"{_GUEST}/revisions", b"x", TAR, "infer"), (403,)),
        ("a key to infer, a file", sent("PUT", f"{_DIGITS}/files/a", b"x", "", "infer"), (403,)),
        ("a key to infer, to look", sent("GET", f"{_DIGITS}/revisions", key="infer"), (403,)),
        ("a key for feedback, to roll back", sent("POST", f"{_DIGITS}/rollback", key="feedback"), (403,)),
        ("a key to infer, to withdraw", sent("DELETE", _DIGITS, key="infer"), (403,)),
    ],
    "archive bombs": [
        ("zip: 256 MiB of zeros in 256 KiB", archive(partial(hostile.zeros_in_zip, 256 * MIB), ZIP), (413,)),
        ("tar.gz: 256 MiB of zeros", archive(partial(hostile.zeros_in_gzip, 256 * MIB), GZIP), (413,)),
        ("zips in zips, 20 deep", archive(partial(hostile.nested_zips, 20), ZIP), (400,)),
        ("gzip in gzip", archive(lambda: gzip.compress(gzip.compress(bytes(MIB))), GZIP), (400,)),
        (
            "zip: one content by 4,000 names",
            archive(partial(hostile.one_content_many_names, 4000), ZIP),
            (400, 413),
        ),
        ("zip: a file longer than it says", archive(hostile.shorter_than_it_is, ZIP), (400,)),
        (
            "zip: 70,000 files",
            archive(lambda: hostile.zipped({f"{n}": b"" for n in range(70_000)}), ZIP),
            (413,),
        ),
        ("tar: 5,000 files", archive(lambda: hostile.names(f"{n}" for n in range(5000))), (413,)),
        (
            "tar: 5,000 folders",
            archive(lambda: hostile.tar({}, *(hostile.member(f"{n}", tarfile.DIRTYPE) for n in range(5000)))),
            (413,),
        ),
        ("tar: a file of 8 GiB announced", _header(b"77777777777"), (400, 413)),
        ("tar: a file of 2^80 bytes announced", _header(b"\x80" + b"\xff" * 11), (400, 413)),
        ("tar: a size below zero", _header(b"\xff" * 12), (400,)),
        ("tar: a long name of 8 GiB", _header(b"77777777777", tarfile.GNUTYPE_LONGNAME), (400,)),
        ("tar: pax fields of 8 GiB", _header(b"77777777777", tarfile.XHDTYPE), (400,)),
        ("tar: sparse, of GNU", _header(b"00000000010", tarfile.GNUTYPE_SPARSE), (400,)),
        ("tar: sparse, of pax, 1 TiB", archive(hostile.sparse_in_pax), (400,)),
        (
            "tar: 20,000 long names in a row",
            archive(partial(hostile.long_names_in_a_row, 20_000), GZIP),
            (400, 413),
        ),
    ],
    "traversal": [
        *_bad_names(),
        ("tar: one with a zero byte", archive(partial(hostile.pax_name, "a\0b")), (400,)),
        ("tar: dots of another alphabet", archive(partial(hostile.names, ["\uff0e\uff0e/pwned"])), _TAKEN),
        ("tar: a name in another case", archive(partial(hostile.names, ["APPLICATION.YAML"])), _TAKEN),
        (
            "tar: the state's own .peekserve/keys.sqlite",
            archive(partial(hostile.names, [".peekserve/keys.sqlite"])),
            _TAKEN,
        ),
        ("tar: a symbolic link to /etc/passwd", _link(tarfile.SYMTYPE, "/etc/passwd"), (400,)),
        ("tar: a hard link to /etc/passwd", _link(tarfile.LNKTYPE, "/etc/passwd"), (400,)),
        ("tar: a hard link to a file of the archive", _link(tarfile.LNKTYPE, "model.onnx"), (400,)),
        ("tar: a device", _link(tarfile.CHRTYPE), (400,)),
        ("tar: a pipe", _link(tarfile.FIFOTYPE), (400,)),
        (
            "zip: a symbolic link",
            archive(lambda: hostile.zipped({**hostile.around(), "l": b"/etc/passwd"}, hostile.LINK), ZIP),
            (400,),
        ),
        (
            "zip: ../",
            archive(lambda: hostile.zipped({**hostile.around(), "../../../pwned": b"x"}), ZIP),
            (400,),
        ),
        (
            "zip: a file and a folder of one name",
            archive(lambda: hostile.zipped({**hostile.around(), "a": b"", "a/b": b""}), ZIP),
            (400,),
        ),
        ("PUT: ../ in percent", sent("PUT", f"{_DIGITS}/files/..%2f..%2f..%2fpwned", b"x"), (400,)),
        ("PUT: an absolute path", sent("PUT", f"{_DIGITS}/files/%2fpwned", b"x"), (400,)),
        ("PUT: a zero byte", sent("PUT", f"{_DIGITS}/files/a%00.onnx", b"x"), (400,)),
        ("PUT: bytes that are no UTF-8", sent("PUT", f"{_DIGITS}/files/%ff%fe", b"x"), (400,)),
        ("PUT: below a file", sent("PUT", f"{_DIGITS}/files/application.yaml/x", b"x"), (400,)),
        ("PUT: in the place of a folder", sent("PUT", f"{_DIGITS}/files/cnn", b"x"), (400,)),
        (
            "PUT: in another application's folder",
            sent("PUT", f"{ADMIN}/..%2fdigits/files/a", b"x"),
            (400, 404),
        ),
        (
            "../ as an application's name",
            sent("POST", f"{ADMIN}/..%2f..%2fpwned/revisions", b"x", TAR),
            (400, 404),
        ),
        (".. as an application's name", sent("POST", f"{ADMIN}/%2e%2e/revisions", b"x", TAR), (400, 404)),
        ("../ as a revision, to look", sent("GET", f"{_DIGITS}/revisions/..%2f..%2f.."), (404,)),
        (".. as a revision, to remove", sent("DELETE", f"{_DIGITS}/revisions/%2e%2e"), (404,)),
        ("../ as a revision, to swap", sent("POST", f"{_DIGITS}/revisions/..%2f..%2fdigits/swap"), (404,)),
        ("a zero byte in a revision", sent("DELETE", f"{_DIGITS}/revisions/a%00b"), (404,)),
        ("a revision that is no UTF-8", sent("DELETE", f"{_DIGITS}/revisions/%ff%ed%a0%80"), (404,)),
    ],
    "pickle": [
        ("a pickle named model.onnx", application(model=hostile.a_pickle()), ("invalid",)),
        ("labels that are Python objects", application(validation=hostile.objects()), ("invalid",)),
        ("a pickle named validation.npz", application(validation=hostile.a_pickle()), ("invalid",)),
        ("model.pkl", archive(partial(hostile.names, ["model.pkl"])), (400,)),
        ("PUT files/MODEL.PT", sent("PUT", f"{_DIGITS}/files/MODEL.PT", hostile.a_pickle()), (400,)),
    ],
    "models": [
        (
            "weights in ../../../../etc/passwd",
            application(model=hostile.outside("../../../../../../etc/passwd")),
            ("invalid",),
        ),
        ("weights in /etc/passwd", application(model=hostile.outside("/etc/passwd")), ("invalid",)),
        ("weights in /dev/zero", application(model=hostile.outside("/dev/zero")), ("invalid",)),
        ("an operator that nobody has", application(model=hostile.custom_operator()), ("invalid",)),
        ("an operator that runs Python", application(model=hostile.python_operator()), ("invalid",)),
        (
            "weights of 2^62 bytes, 8 of them there",
            application(model=hostile.huge_initialiser()),
            ("invalid",),
        ),
        (
            "one that takes 15 GiB of memory",
            application(model=hostile.fills_memory(15 << 30)),
            ("invalid", "failed"),
        ),
        ("branches 10,000 deep", application(model=hostile.deep(10_000)), ("invalid",)),
        ("random bytes", application(model=bytes(range(256)) * 100), ("invalid",)),
        ("one that never ends, removed meanwhile", until_it_hangs(removed), (204,)),
        ("one whose process is brought down", until_it_hangs(brought_down), ("failed", "invalid")),
    ],
    "data": [
        ("an array of 2^50 bytes by its header", application(validation=hostile.huge_array()), ("invalid",)),
        (
            "512 MiB in 0.5 MiB of npz",
            archive(lambda: hostile.tar(hostile.around(validation=hostile.zeros_in_zip(512 * MIB)))),
            ("invalid",),
        ),
    ],
    "YAML": [
        ("aliases of aliases", application(yaml=hostile.BILLION), ("invalid",)),
        ("a tag that makes Python objects", application(yaml=hostile.TAGGED), ("invalid",)),
        ("100,000 nested lists", application(yaml=b"[" * 100_000), ("invalid",)),
        (
            "model: ../../../../etc/passwd",
            application(yaml=hostile.naming("../../../../../../../../etc/passwd")),
            ("invalid",),
        ),
        ("model: /etc/passwd", application(yaml=hostile.naming("/etc/passwd")), ("invalid",)),
        ("model: an address", application(yaml=hostile.naming("http://127.0.0.1:1/m.onnx")), ("invalid",)),
        ("another application's name", application("digits"), ("invalid",)),
        ("a name that climbs", application("../../pwned"), ("invalid",)),
    ],
    "load": [
        ("HTTP: no base64", load({"file:a.onnx": "!!!"}), (400,)),
        ("HTTP: a number as a file", load({"file:a.onnx": 5}), (400,)),
        ("HTTP: ../", load({"file:../../../pwned": ""}), (400,)),
        ("HTTP: an absolute path", load({"file:/pwned": ""}), (400,)),
        ("HTTP: a pickle", load({"file:a.pkl": ""}), (400,)),
        ("HTTP: no path", load({"file:": ""}), (400,)),
        ("HTTP: YAML of aliases as config", load({"config": hostile.BILLION.decode()}), (400,)),
        ("gRPC: no base64", load_by_grpc("file:a.onnx", "!!!"), ("INVALID_ARGUMENT",)),
        ("gRPC: ../", load_by_grpc("file:../../../pwned", b"x"), ("INVALID_ARGUMENT",)),
        (
            "gRPC: a name that climbs",
            load_by_grpc("file:a", b"x", "../../pwned"),
            ("INVALID_ARGUMENT", "NOT_FOUND"),
        ),
    ],
    "too much": [
        ("an upload of 10 GiB announced", sent_long(10 << 30), (413,)),
        ("an upload in chunks without an end", in_chunks(2 * UPLOAD), (413,)),
        ("a third upload at once", several(2), (429,)),
    ],
    "slow clients": [
        ("an upload of which half comes", slowly(b"x", 0.0, 1), (408,)),
        ("an upload of ten bytes a second", slowly(b"xx", 0.2, 100), (408,)),
        ("one that hangs up half way", hangs_up, (0,)),
    ],
    "full disk": [
        ("an upload of 1 MiB", without_room(archive(lambda: hostile.names(["a" * 9]) + bytes(MIB))), (503,)),
        (
            "an archive that unpacks to 1 MiB",
            without_room(archive(lambda: hostile.zipped({**hostile.around(), "b": bytes(MIB)}), ZIP)),
            (503,),
        ),
    ],
}
ATTACKS: tuple[Attack, ...] = tuple(Attack(kind, *one) for kind, some in _BY_KIND.items() for one in some)


def tried(target: Target, attack: Attack, root: Path) -> Finding:
    before = outside(target, root)
    watch = Watch(target)
    got, said = attack.tries(target)
    more = watch.end()
    since = time.monotonic()
    uploads = Path(target.state) / "uploads"
    while (left := [*looking(target), *uploads.glob("*")]) and time.monotonic() < since + _CLEARED_S:
        time.sleep(0.05)
    status, _ = answered(target, post("/v2/models/digits/infer", good(), key=target.infer))
    traces = ["no answer afterwards"] if status != 200 else []
    traces += [f"left: {left}"] if left else []
    traces += ["written outside"] if outside(target, root) != before else []
    traces += [f"{more >> 20} MiB of memory"] if more > MOST_MEMORY else []
    words = f"{said} ({'; '.join(traces)})" if traces else said
    return Finding(attack.kind, attack.what, got, " ".join(words.split()), got in attack.gets, not traces)


def run(root: Path, attacks: Sequence[Attack] = ATTACKS) -> list[Finding]:
    """A server of the repository at `root`, and all attacks on it, one after another."""
    with attacked(root, **{"limits.upload": f"{UPLOAD >> 20}MiB"}) as target:
        return [tried(target, attack, root) for attack in attacks]


if __name__ == "__main__":
    sys.exit(command("Upload what no server should take.", run, sys.argv[1:]))
