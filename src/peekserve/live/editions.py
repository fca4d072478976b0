"""Which applications a server knows, which revision of each its clients get, and how their variants are."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from peekserve.domain.application import Application, public
from peekserve.domain.messages import Event, Load, Loaded, LoadFailed, Unload, Unloaded, WorkerDown, WorkerUp
from peekserve.errors import InvalidConfiguration, UnknownApplication

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"
BY_HAND = "unloaded by hand"


@dataclass(slots=True)
class _Waiting:
    """Somebody waits until these weights are loaded, or gone. `loaded`: those that a worker has loaded since; `lost`:
    with which words a worker went down that was loading them."""

    weights: frozenset[str]
    opened: bool
    done: asyncio.Future[dict[str, str]]
    loaded: set[str] = field(default_factory=set)
    lost: dict[str, str] = field(default_factory=dict)


class Editions:
    """`known`: by key, all that the scheduler has heard of. `active`: by public name, what clients get."""

    def __init__(self, applications: Iterable[Application]) -> None:
        self.known = {app.key: app for app in applications}
        self.active = {app.name: app for app in self.known.values()}
        self._offered = {app.key: everything(app) for app in self.known.values()}
        self._served = set(self.known)
        self._devices: dict[str, str] = {}
        self._broken: dict[tuple[str, str], str] = {}
        self._loading: set[tuple[str, str]] = set()
        self._unloading: set[tuple[str, str]] = set()
        self._waiting: list[_Waiting] = []
        self._down: dict[str, str] = {}

    @property
    def loading(self) -> bool:
        """Is a worker asked to load something that it has not loaded yet?"""
        return bool(self._loading)

    def find(self, key: str) -> Application:
        """Raises UnknownApplication."""
        if key not in self.known:
            raise UnknownApplication(f"nothing is registered as {key!r}; there are {', '.join(self.known)}")
        return self.known[key]

    def check_new(self, application: Application) -> None:
        """Raises InvalidConfiguration where its key is taken."""
        if application.key in self.known:
            raise InvalidConfiguration(f"{application.key!r} is registered already")

    def joined(self, application: Application) -> None:
        self.known[application.key] = application
        self._offered[application.key] = everything(application)

    def activate(self, key: str) -> Application | None:
        """Clients get this one from now on; the one that they got before, if it is another."""
        application = self.find(key)
        before = self.active.get(application.name)
        self.active[application.name] = application
        self._served.add(key)
        return before if before is not None and before.key != key else None

    def withdraw(self, name: str) -> Application:
        """Clients get none any more. Raises UnknownApplication."""
        if name not in self.active:
            raise UnknownApplication(f"there is no application {name!r}; there are {', '.join(self.active)}")
        return self.active.pop(name)

    def offered(self, key: str) -> tuple[str, ...]:
        return self._offered[key]

    def label(self, key: str) -> str:
        """What metrics call it: its public name, or "name (shadow)" for one that no client ever got."""
        return public(key) if key in self._served else f"{public(key)} (shadow)"

    # ---- variants ----

    def offer(
        self, key: str, variants: tuple[str, ...], loop: asyncio.AbstractEventLoop
    ) -> asyncio.Future[dict[str, str]]:
        """These may be used from now on: resolves, when all is loaded or gone, to what went wrong with each that no
        worker could load."""
        app, before = self.find(key), self._offered[key]
        self._offered[key] = variants
        gone = set(before) - set(variants)
        changed = set(variants) - set(before) or gone or set(variants)
        weights = frozenset(app.variant(name).weights for name in changed)
        tried = {app.variant(name).weights for name in variants}
        self._broken = {pair: error for pair, error in self._broken.items() if pair[1] not in tried}
        waiting = _Waiting(weights, changed != gone, loop.create_future())
        self._waiting.append(waiting)
        return waiting.done

    def settle(self, draining: bool) -> None:
        """To be asked after every event: tell whoever waited long enough. `draining`: rows still use what is not
        offered any more."""
        for one in list(self._waiting):
            ready = not any(weights in one.weights for _, weights in self._loading | self._unloading)
            if ready and (one.opened or not draining):
                self._waiting.remove(one)
                if not one.done.done():
                    one.done.set_result(self._troubles(one) if one.opened else {})

    def state(self, name: str, variant: str, up: bool) -> tuple[str, str]:
        """(READY, LOADING or UNAVAILABLE, why) of a variant that clients get. `up`: is any worker?"""
        app = self.active[name]
        weights = app.variant(variant).weights
        if variant not in self._offered[app.key]:
            return UNAVAILABLE, BY_HAND
        trouble = self._trouble(weights)
        if trouble:
            return UNAVAILABLE, trouble
        if not up:
            died = "".join(f"; {worker}: {error}" for worker, error in sorted(self._down.items()))
            return UNAVAILABLE, f"no worker is up{died}"
        loading = {worker for worker, one in self._loading if one == weights}
        if any(waiting.opened and weights in waiting.weights for waiting in self._waiting) and loading:
            return LOADING, f"on {', '.join(sorted(loading))}"
        return READY, ""

    def _troubles(self, waiting: _Waiting) -> dict[str, str]:
        lost = {w: error for w, error in waiting.lost.items() if w not in waiting.loaded}
        found = {w: self._trouble(w) or lost.get(w, "") for w in sorted(waiting.weights)}
        return {w: error for w, error in found.items() if error}

    def _trouble(self, weights: str) -> str:
        """Why no worker that is up has them, if they could not be loaded; empty if one is left that may have them."""
        errors = {worker: error for (worker, one), error in self._broken.items() if one == weights}
        if not errors:
            return ""
        users = [v for app in self.known.values() for v in app.variants if v.weights == weights]
        devices = {device for variant in users for device in variant.timing}
        left = [w for w, device in self._devices.items() if device in devices and w not in errors]
        return "" if left else "; ".join(dict.fromkeys(errors.values()))

    def asked(self, command: Load | Unload) -> None:
        """A worker is asked to load or to unload."""
        asked = self._loading if isinstance(command, Load) else self._unloading
        asked.add((command.worker, command.weights))

    def note(self, event: Event) -> None:
        match event:
            case WorkerUp(worker, device):
                self._down.pop(worker, None)
                self._devices[worker] = device
            case WorkerDown(worker, error):
                self._down[worker] = error
                self._devices.pop(worker, None)
                self._broken = {pair: why for pair, why in self._broken.items() if pair[0] != worker}
                for waiting in self._waiting:
                    waiting.lost |= {w: f"{worker}: {error}" for one, w in self._loading if one == worker}
                self._loading = {pair for pair in self._loading if pair[0] != worker}
                self._unloading = {pair for pair in self._unloading if pair[0] != worker}
            case Unloaded(worker, weights):
                self._unloading.discard((worker, weights))
            case Loaded(worker, weights):
                self._loading.discard((worker, weights))
                for waiting in self._waiting:
                    waiting.loaded.add(weights)
            case LoadFailed(worker, weights, error):
                self._loading.discard((worker, weights))
                self._broken[worker, weights] = error
            case _:
                pass


def everything(application: Application) -> tuple[str, ...]:
    """The names of all its variants."""
    return tuple(variant.name for variant in application.variants)
