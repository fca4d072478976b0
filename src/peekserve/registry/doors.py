"""The keys of peekserve.yaml that belong to the doors: where they listen, who may come in, how much at once,
and how they close."""

from dataclasses import dataclass
from pathlib import Path

from peekserve.config import Entry, Section

ACCESS = ("auto", "keys", "open")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 picks a free one."""

    host: str
    port: int


# Where clients of the protocol look for a server, and nobody from elsewhere can.
HTTP, GRPC = Address("127.0.0.1", 8000), Address("127.0.0.1", 8001)


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the certificate (with those between it and its root) and its private key, without a password."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Limits:
    """`body`: bytes of one request. `rows`: of one request. `waiting_rows`, `waiting_bytes`: of all that
    wait. `remembered_rows`: answered rows whose true class may still come. `rate`: requests a second of one client,
    0 for no limit; `burst`: of them at once, 0 for one second's. `body_wait_s`: until a body is here that has begun.
    `upload`: bytes of a revision that is registered.
    """

    body: int = 64 << 20
    rows: int = 1024
    waiting_rows: int = 4096
    waiting_bytes: int = 256 << 20
    remembered_rows: int = 65_536
    rate: float = 0.0
    burst: float = 0.0
    body_wait_s: float = 10.0
    upload: int = 512 << 20


@dataclass(frozen=True, slots=True)
class Drain:
    """What comes between being asked to end and the end. `delay_s`: still serving, no longer ready, until whoever sends
    requests has noticed. `at_most_s`: after that, how long what was accepted is waited for."""

    delay_s: float = 0.0
    at_most_s: float = 10.0


def address(entry: Entry, default: Address) -> Address:
    """HOST:PORT, [IPv6]:PORT, or a port alone."""
    host, _, port = entry.text().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535 or " " in host:
        raise entry.wrong(f"{entry.text()!r} is no address", "write HOST:PORT, for example 0.0.0.0:8000")
    return Address(host or default.host, int(port))


def grpc(entry: Entry) -> Address | None:
    return None if entry.text() in ("off", "none") else address(entry, GRPC)


def tls(entry: Entry) -> Tls:
    section = Section(entry)
    found = Tls(section.need("certificate", _a_file, ""), section.need("key", _a_file, ""))
    section.done()
    return found


def drain(entry: Entry) -> Drain:
    plain = Drain()
    section = Section(entry)
    found = Drain(
        section.take("delay", Entry.seconds, plain.delay_s),
        section.take("at_most", Entry.seconds, plain.at_most_s),
    )
    section.done()
    return found


def _a_file(entry: Entry) -> str:
    path = Path(entry.text())
    if not path.is_file():
        raise entry.wrong(f"there is no file {path.absolute()}", "write the path of a PEM file")
    return str(path)


def limits(entry: Entry) -> Limits:
    plain = Limits()
    section = Section(entry)
    found = Limits(
        section.take("body", Entry.size, plain.body),
        section.take("rows", lambda e: e.integer(1), plain.rows),
        section.take("waiting_rows", lambda e: e.integer(1), plain.waiting_rows),
        section.take("waiting_bytes", Entry.size, plain.waiting_bytes),
        section.take("remembered_rows", lambda e: e.integer(0), plain.remembered_rows),
        section.take("rate", lambda e: e.number(0.0), plain.rate),
        section.take("burst", lambda e: e.number(0.0), plain.burst),
        section.take("body_wait", Entry.positive_seconds, plain.body_wait_s),
        section.take("upload", Entry.size, plain.upload),
    )
    section.done()
    if 0.0 < found.burst < 1.0:
        entry.note(f"a burst of {found.burst:g} lets nobody ask", "write 1 or more, or 0 for one second's")
    if found.burst and not found.rate:
        entry.note("burst without a rate limits nobody", "write rate, requests a second of one client, too")
    return found
