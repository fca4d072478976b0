"""Whether a server asks for keys, and whether it may do without: docs/security.md."""

import ipaddress
import time
from collections.abc import Callable
from pathlib import Path

from peekserve.cli.assembly import state_folder
from peekserve.errors import InvalidConfiguration
from peekserve.registry.doors import Address
from peekserve.registry.settings import ServerSettings
from peekserve.server.access import Access
from peekserve.server.rates import Buckets
from peekserve.state.keys import FILE, Keys


def open_keys(root: Path, settings: ServerSettings) -> Keys:
    return Keys(state_folder(root, settings) / FILE)


def access_of(root: Path, settings: ServerSettings, tell: Callable[[str], None]) -> Access:
    """Who may come in. Tells of keys that travel in the open.

    Raises InvalidConfiguration where others can reach the server and nobody said that they may, or where keys are
    asked for and there are none.
    """
    keys = open_keys(root, settings)
    known = settings.access != "open" and bool(keys.all())
    asked = known or settings.access == "keys"
    far = [address for address in (settings.http, settings.grpc) if address and not near(address)]
    if not asked:
        keys.close()
    elif not known:
        raise InvalidConfiguration(
            f"access: keys, and there are none: make one with peekserve keys add {root} NAME"
        )
    if far and not asked and settings.access != "open":
        raise InvalidConfiguration(
            f"at {far[0].host}:{far[0].port} others can reach this server, and it has no keys: make one with peekserve "
            f"keys add {root} NAME, or say access: open"
        )
    if far and asked and settings.tls is None:
        tell(
            f"keys for {far[0].host}:{far[0].port} travel in the open: set tls, or put a proxy with TLS before it"
        )
    limits = settings.limits
    buckets = Buckets(limits.rate, limits.burst or max(limits.rate, 1.0)) if limits.rate else None
    return Access(keys if asked else None, buckets, time.monotonic)


def near(address: Address) -> bool:
    """Can only this machine reach it?"""
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host == "localhost"
