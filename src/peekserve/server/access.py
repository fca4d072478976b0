"""Who may do what, at both doors: a key's scope for each path and method, and how much a client may ask.

Health is open to everybody: whoever restarts a server must not need a key for it. Everything else needs a key as soon
as there is one, and the scope that the table names.
"""

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from peekserve.errors import Forbidden, RateLimited, Unauthenticated
from peekserve.server.rates import Buckets
from peekserve.state.keys import Key, Keys, Scope, digest, parts

# How long a key that was revoked, or made, may go unnoticed.
FRESH_S = 1.0
# Compared with where there is no such key, so that a wrong id takes as long as a wrong secret.
_NOBODYS = digest("")


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: `name` of the key, or the address where no key is needed."""

    name: str
    key: Key | None = None


class Access:
    """`keys`: None where nobody needs a key; read by whoever calls `admit`, in its thread. `now`: a monotonic clock,
    seconds."""

    def __init__(self, keys: Keys | None, buckets: Buckets | None, now: Callable[[], float]) -> None:
        self._keys = keys
        self._buckets = buckets
        self._now = now
        self._known: Mapping[str, Key] = {}
        self._edition: int | None = None
        self._fresh_until = -inf

    @property
    def idle(self) -> bool:
        """Nobody is asked for anything."""
        return self._keys is None and self._buckets is None

    def admit(self, scope: Scope | None, told: str | None, address: str) -> Client:
        """Whoever sent the key `told` from `address` may do what needs `scope` (None: nothing), now.

        Raises Unauthenticated without a key or with one that is not known, Forbidden where it lacks the scope,
        RateLimited where this client asks too often, and InvalidConfiguration where the keys cannot be read: then
        nobody is let in who needs one.
        """
        client = Client(address)
        if self._keys is not None and scope is not None:
            client = self._client(told, scope)
        if self._buckets is not None and scope is not None:
            wait_s = self._buckets.take(client.name, self._now())
            if wait_s > 0.0:
                raise RateLimited(
                    f"client {client.name!r} may ask {self._buckets.rate:g} times a second, "
                    f"{self._buckets.burst:g} at once: try again in {wait_s:.3g} s",
                    wait_s,
                )
        return client

    def _client(self, told: str | None, scope: Scope) -> Client:
        if not told:
            raise Unauthenticated("this needs a key: send Authorization: Bearer KEY, or x-api-key: KEY")
        number, secret = parts(told) or ("", "")
        key = self._current().get(number)
        same = hmac.compare_digest(digest(secret), key.digest if key is not None else _NOBODYS)
        if key is None or not same:
            raise Unauthenticated("no such key: it was never made here, or was revoked")
        if not key.may(scope):
            has = ", ".join(sorted(key.scopes))
            raise Forbidden(f"the key {key.name!r} is good for {has}; this needs {scope}")
        return Client(key.name, key)

    def _current(self) -> Mapping[str, Key]:
        now = self._now()
        if self._keys is not None and now >= self._fresh_until:
            # The edition first: what is written between the two is then read twice, and not never.
            edition = self._keys.edition()
            if edition != self._edition:
                self._known = self._keys.all()
            self._edition, self._fresh_until = edition, now + FRESH_S
        return self._known


def key_of(fields: Iterable[tuple[str, str]]) -> str | None:
    """The key in the two headers that may bring one; None without. A header that comes twice says both things (RFC
    9110, section 5.3), and no key has a comma in it: nobody gets in by what another reader of it would pass over.

    >>> key_of([("authorization", "Bearer one"), ("host", "a")]), key_of([("x-api-key", "a"), ("x-api-key", "b")])
    ('one', 'a, b')
    """
    told: dict[str, list[str]] = {"authorization": [], "x-api-key": []}
    for name, said in fields:
        if name in told:
            told[name].append(said)
    authorization, api_key = (", ".join(said) for said in told.values())
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer" and value.strip():
        return value.strip()
    return api_key.strip() or None


def scope_of(path: str) -> Scope | None:
    """What an HTTP request needs, whatever its method; None for health. What is on no list needs a key all the same."""
    if path in ("/v2/health/live", "/v2/health/ready"):
        return None
    if path.startswith("/api/v1/feedback"):
        return Scope.FEEDBACK
    if path.startswith(("/api/v1/admin/", "/v2/repository/models/")):
        return Scope.ADMIN
    return Scope.INFER


def scope_of_call(method: str) -> Scope | None:
    """The same of a gRPC method, by its full name."""
    service, _, name = method.removeprefix("/").partition("/")
    if service == "grpc.health.v1.Health" or name in ("ServerLive", "ServerReady"):
        return None
    if name in ("RepositoryModelLoad", "RepositoryModelUnload"):
        return Scope.ADMIN
    return Scope.INFER
