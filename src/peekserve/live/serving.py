"""Which revision of each application clients get, and the one step that changes it.

A revision takes the place of another when its models are loaded; what was begun with the other ends there. That it is
served is written down before it is done, so that a server that dies in between serves it afterwards. Disk and database
are worked on by one thread, everything else happens on the event loop's.
"""

import asyncio
import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from peekserve.domain.application import Application
from peekserve.errors import (
    InvalidConfiguration,
    NoRoom,
    PeekserveError,
    UnknownApplication,
    UnknownRevision,
    WrongState,
)
from peekserve.live.editions import everything
from peekserve.live.onboarding import Onboards, decompile
from peekserve.live.shadowing import Submits
from peekserve.state.registrations import NOTHING, OWN, USABLE, Registration, Registrations
from peekserve.state.shelf import Shelf

T = TypeVar("T")
# A disk, somebody's part of it, or the longest file that a process may write.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A worker that does not answer a load is ended after a minute (workers/seat.py), and an application may have several
# models, which are loaded one after the other. Whoever swaps next waits for this.
LOAD_S = 300.0


class Drives(Submits, Protocol):
    """What serves: the live driver, or a scripted twin. On the event loop's thread."""

    @property
    def applications(self) -> Mapping[str, Application]: ...

    @property
    def editions(self) -> Mapping[str, Application]: ...

    def withdraw(self, name: str) -> None: ...

    def offer(self, key: str, variants: tuple[str, ...]) -> asyncio.Future[dict[str, str]]: ...

    def state(self, application: str, variant: str) -> tuple[str, str]: ...


class Joins(Protocol):
    """Lets an application join, with all that it needs besides its models, and gives it to clients: the server's core
    (cli/assembly.py), or a scripted twin."""

    async def register(self, application: Application) -> None: ...

    def activate(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """Where revisions are kept. `unpack`: an archive's files into a folder; raises InvalidRequest or TooLarge.
    `onboard`: what looks at a revision. `unix_s`: the wall clock. `disk`: one thread, in which all of it is used.
    `log`: is told each step of a revision: application, revision, state, why."""

    registrations: Registrations
    shelf: Shelf
    unpack: Callable[[Path, Path], None]
    onboard: Onboards
    unix_s: Callable[[], float]
    disk: ThreadPoolExecutor
    log: Callable[[str, str, str, str], None] = lambda *_: None

    async def kept(self, work: Callable[..., T], *told: Any) -> T:
        """Done in the thread that owns disk and database. Raises NoRoom where the disk is full."""
        with finding_room():
            return await asyncio.get_running_loop().run_in_executor(self.disk, work, *told)


@contextmanager
def finding_room() -> Iterator[None]:
    """A full disk is no bug: raises NoRoom for it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
    except InvalidConfiguration as error:  # in these words state/ tells of all that SQLite cannot do
        if getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            raise
    else:
        return
    raise NoRoom("the disk on which the server keeps its state is full: nothing of this was kept")


class Serving:
    """`own`: the applications that lie in the repository itself, by name. `load_s`: how long a load is waited for."""

    def __init__(
        self, driver: Drives, core: Joins, desk: Desk, own: Mapping[str, Application], load_s: float = LOAD_S
    ) -> None:
        self.driver = driver
        self._core = core
        self._desk = desk
        self._own = own
        self._load_s = load_s
        self._swapping = asyncio.Lock()

    def current(self, name: str) -> str:
        """The revision that clients get: OWN for the repository's own, NOTHING for none."""
        served = self.driver.applications.get(name)
        return NOTHING if served is None else served.edition or OWN

    def application(self, name: str) -> Application:
        """What clients get under this name. Raises UnknownApplication."""
        found = self.driver.applications.get(name)
        if found is None:
            known = ", ".join(sorted(self.driver.applications)) or "none"
            raise UnknownApplication(f"there is no application {name[:80]!r}; there are: {known}")
        return found

    async def swap(self, name: str, revision: str) -> Registration | None:
        """Serve this one; None for OWN. Raises UnknownRevision, and WrongState where it cannot be served (yet)."""
        async with self._swapping:  # looked up in here: it may be forgotten while this waits
            if revision != OWN:
                found = await self._find(name, revision)
                if found.state not in USABLE:
                    raise WrongState(
                        f"revision {revision} of {name!r} is {found.state}: {found.why or 'wait for it'}"
                    )
            elif name not in self._own:
                raise UnknownRevision(f"there is no application {name!r} in the repository itself")
            await self._serve(name, revision)
            return None if revision == OWN else await self._find(name, revision)

    async def follow(self, one: Registration) -> bool:
        """Serve this one in its parent's place, or in that of one that came before it and took that place meanwhile.
        False where somebody went back, or forward to a newer one: then it waits. Raises as `swap`."""
        name, revision = one.application, one.revision
        async with self._swapping:
            current = self.current(name)
            if current not in (one.parent, revision) and not (
                await self._made_at(name, one.parent) < await self._made_at(name, current) < one.made_at
            ):
                self.free(name, revision)
                return False
            await self._serve(name, revision)
            return True

    async def _made_at(self, name: str, revision: str) -> float:
        """Before all others, where it was never registered or is forgotten."""
        with suppress(UnknownRevision):
            return (await self._find(name, revision)).made_at
        return -inf

    async def forget(self, name: str, revision: str) -> None:
        """Remove all of a revision. Raises WrongState where it is served."""
        async with self._swapping:
            await self._desk.kept(self._desk.registrations.forget, name, revision)
            self.free(name, revision)
            await self._desk.kept(self._desk.shelf.forget, name, revision)

    async def rollback(self, name: str) -> str:
        """Serve what was served before; its revision. Raises UnknownApplication where nothing has this name, and
        WrongState where there is nothing to go back to, or where all that is served would be withdrawn by it."""
        async with self._swapping:
            before = await self._desk.kept(self._desk.registrations.before, name)
            if before is None and not await self._desk.kept(self._desk.registrations.of, name):
                self.application(name)
            if before == OWN and name not in self._own:
                raise WrongState(
                    f"before, the repository's own {name!r} was served, and it is gone from there"
                )
            if before == NOTHING:
                self._check_not_all(name)
            if before:
                application = await self.bring(name, before)
                await self._load(application)
            await self._desk.kept(self._desk.registrations.rolled_back, name, self._desk.unix_s())
            now = "active" if before else "withdrawn"
            self._desk.log(name, before or NOTHING, now, "somebody rolled back")
            if before:
                self._core.activate(application.key)
            elif name in self.driver.applications:
                self.driver.withdraw(name)
        return before or NOTHING

    async def withdraw(self, name: str) -> None:
        """Serve nothing under this name any more. Raises UnknownApplication, and WrongState where nothing else is
        served: the next server would have nothing to start with."""
        async with self._swapping:
            self.application(name)
            self._check_not_all(name)
            now = self._desk.unix_s()
            before = self.current(name)
            await self._desk.kept(self._desk.registrations.swapped, name, NOTHING, before, now)
            self._desk.log(name, before, "withdrawn", "nothing is served under this name any more")
            self.driver.withdraw(name)

    def _check_not_all(self, name: str) -> None:
        """Raises WrongState where nothing else is served."""
        if list(self.driver.applications) == [name]:
            raise WrongState(f"{name!r} is all that is served; register another application first")

    async def _serve(self, name: str, revision: str) -> None:
        """Load it, write down that it is served, and let clients have it. Raises WrongState where it does not load."""
        current = self.current(name)
        if current == revision:
            return
        application = await self.bring(name, revision)
        await self._load(application)
        # Whole, also where whoever wanted it is gone by now: what is written down is what clients get.
        await asyncio.shield(self._take_place(application, revision, current))

    async def _take_place(self, application: Application, revision: str, current: str) -> None:
        name, now = application.name, self._desk.unix_s()
        await self._desk.kept(self._desk.registrations.swapped, name, revision, current, now)
        self._desk.log(name, revision, "active", f"it takes the place of {current or 'nothing'}")
        self._core.activate(application.key)

    async def _load(self, application: Application) -> None:
        """Raises WrongState where it does not load."""
        trouble = await self.load(application)
        if trouble:
            if self.driver.applications.get(application.name) is not application:
                self.driver.offer(application.key, ())
            raise WrongState(trouble)

    async def load(self, application: Application) -> str:
        """Have all its variants loaded: what went wrong, in one sentence, or nothing."""
        try:
            async with asyncio.timeout(self._load_s):
                trouble = await self.driver.offer(application.key, everything(application))
        except TimeoutError:
            return f"it was not loaded within {self._load_s:g} s"
        return trouble_of(trouble) if trouble else ""

    async def bring(self, name: str, revision: str, mine: Application | None = None) -> Application:
        """The application behind a revision, known to the driver from now on."""
        key = name if revision == OWN else f"{name}@{revision}"
        if key in self.driver.editions:
            return self.driver.editions[key]
        application = self._own.get(name) if revision == OWN else mine
        if application is None:
            application = await self._read_again(name, revision)
        await self._core.register(application)
        return application

    async def _read_again(self, name: str, revision: str) -> Application:
        """As it was written down; where another peekserve wrote it, it is looked at anew."""
        compiled = await self._desk.kept(self._desk.registrations.compiled, name, revision)
        made: Application | None = None
        with suppress(msgspec.MsgspecError, PeekserveError):
            made = decompile(compiled) if compiled else None
        if made is None:
            found = await self._desk.onboard(self._desk.shelf.root(name, revision), name, lambda _: None)
            if found.application is None:
                raise WrongState(f"revision {revision} of {name!r} cannot be served any more: {found.why}")
            made = found.application
        return replace(made, edition=revision)

    def free(self, name: str, revision: str) -> None:
        """Nobody uses it now: its weights may go."""
        key = f"{name}@{revision}"
        if key in self.driver.editions and self.current(name) != revision:
            self.driver.offer(key, ())

    async def _find(self, name: str, revision: str) -> Registration:
        return await self._desk.kept(self._desk.registrations.find, name, revision)


def trouble_of(by_weights: Mapping[str, str]) -> str:
    """What went wrong with the models of an application, in one sentence."""
    return f"it could not be loaded: {'; '.join(dict.fromkeys(by_weights.values()))}"
