"""Applications, and new revisions of them, that come while the server runs: docs/registration.md.

    files -> shelf -> checked and profiled by a process that is thrown away -> tried on copies of live traffic -> served

Each step is written down before it is told, so that a server that dies, however it dies, takes up what was half done.
"""

import asyncio
import filecmp
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from peekserve.domain.application import Application, check_name
from peekserve.errors import (
    InvalidConfiguration,
    InvalidRequest,
    NotOffered,
    NotReady,
    PeekserveError,
    UnknownRevision,
    WrongState,
)
from peekserve.live.onboarding import Onboarded, Progress
from peekserve.live.serving import Desk, Serving
from peekserve.live.shadowing import Mirror, Shadow, unlike, worse
from peekserve.state.registrations import UNDER_WAY, Life, Registration

LOG = logging.getLogger(__name__)

SHADOW_S = 60.0
FILE = "application.yaml"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a revision is to come in: swapped in by hand, and tried on so many rows of live traffic before."""

    by_hand: bool = False
    shadow_rows: int = 100


class Registrar:
    """`refused`: why nothing can be registered here; empty where it can. `shadow_s`: the longest that a candidate is
    tried on live traffic."""

    def __init__(
        self, serving: Serving, mirror: Mirror, desk: Desk, refused: str = "", shadow_s: float = SHADOW_S
    ) -> None:
        self.serving = serving
        self._driver = serving.driver
        self._mirror = mirror
        self._desk = desk
        self._refused = refused
        self._shadow_s = shadow_s
        self._one_at_a_time = asyncio.Lock()  # of the processes that look at revisions
        self._entering = asyncio.Lock()  # or what is sent twice at once would live twice
        self._lives: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._notes: set[asyncio.Future[Registration]] = set()
        self.progress: dict[tuple[str, str], Progress] = {}
        self.leaving = asyncio.Event()  # nothing is taken any more

    # ---- life ----

    async def tidy(self) -> None:
        """Clear away what nobody knows of, before anything comes in."""
        known = await self._desk.kept(self._desk.registrations.of)
        await self._desk.kept(self._desk.shelf.tidy, [(one.application, one.revision) for one in known])

    async def resume(self) -> None:
        """Take up what an earlier server left half done; what came in meanwhile is under way."""
        for one in await self._desk.kept(self._desk.registrations.of):
            if one.state in UNDER_WAY and not self._refused:
                self._begin(one)

    async def stop(self) -> None:
        """Take nothing more, and end what is under way; another server takes it up."""
        self.leaving.set()
        lives = list(self._lives.values())
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        await self._desk.kept(self._desk.registrations.close)

    # ---- what comes in ----

    def check(self, name: str) -> None:
        """Raises NotOffered where nothing can be registered, NotReady where nothing is any more, InvalidRequest for
        what is no name."""
        self.check_open()
        if self._refused:
            raise NotOffered(self._refused)
        try:
            check_name(name, "application")
        except InvalidConfiguration as error:
            raise InvalidRequest(str(error)) from None

    def check_open(self) -> None:
        """Raises NotReady once the server is being stopped."""
        if self.leaving.is_set():
            raise NotReady("the server is being stopped and takes nothing more: send it to the next one")

    async def folder(self) -> Path:
        """Somewhere to put an upload; `clear` it in the end."""
        return await self._desk.kept(self._desk.shelf.desk)

    async def clear(self, folder: Path) -> None:
        await self._desk.kept(lambda: shutil.rmtree(folder, ignore_errors=True))

    async def write(self, stream: IO[bytes], data: bytes | bytearray) -> None:
        """To a file of an upload, away from the event loop."""
        await self._desk.kept(stream.write, data)

    async def upload(self, name: str, archive: Path, wanted: Wanted) -> Registration:
        """A revision out of an archive. Raises InvalidRequest or TooLarge where it is none that is taken, NotOffered
        where nothing is."""
        self.check(name)
        folder = await self.folder()
        try:
            await self._desk.kept(self._desk.unpack, archive, folder)
            return await self._enter(name, folder, wanted)
        finally:
            await self.clear(folder)

    async def amend(self, name: str, files: Mapping[str, Path | bytes], wanted: Wanted) -> Registration:
        """What is served now with these files in place of its own, or beside them; an application.yaml among them may
        begin another one. Raises UnknownApplication where nothing is served under this name, InvalidRequest and
        NotOffered."""
        self.check(name)
        base: Path | None = None
        if FILE not in files or self.serving.current(name):
            served = self.serving.application(name)
            base = self._desk.shelf.folder(name, served.edition) if served.edition else Path(served.root)
        folder = await self.folder()

        def lay() -> None:
            if base is not None:
                self._desk.shelf.copy(base, folder)
            for path, content in files.items():
                target = folder / path
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.unlink(missing_ok=True)
                    if isinstance(content, bytes):
                        target.write_bytes(content)
                    else:
                        content.rename(target)
                except (IsADirectoryError, NotADirectoryError, FileExistsError):
                    raise InvalidRequest(f"{path!r} is a folder, or lies below a file") from None

        try:
            await self._desk.kept(lay)
            return await self._enter(name, folder, wanted)
        finally:
            await self.clear(folder)

    async def _enter(self, name: str, folder: Path, wanted: Wanted) -> Registration:
        desk = self._desk
        async with self._entering:
            revision, sha = await desk.kept(desk.shelf.put, name, folder)
            with suppress(UnknownRevision):
                known = await self.find(name, revision)
                if known.state in UNDER_WAY:
                    # Whoever sent it was gone in the middle, or the disk was too full to note how it ended.
                    self._begin(known)
                if known.state in UNDER_WAY or known.state is Life.ACTIVE:
                    return known
            now = desk.unix_s()
            registration = Registration(
                name, revision, sha, Life.UPLOADED, wanted.by_hand, wanted.shadow_rows,
                self.serving.current(name), made_at=now, changed_at=now,
            )  # fmt: skip
            await desk.kept(desk.registrations.put, registration)
            desk.log(name, revision, registration.state.value, "its files are here")
            self._begin(registration)
            return registration

    # ---- what is known ----

    async def of(self, name: str) -> tuple[Registration, ...]:
        """All revisions of an application, the oldest first. Raises UnknownApplication where there is nothing of it."""
        found = await self._desk.kept(self._desk.registrations.of, name)
        if not found:
            self.serving.application(name)
        return found

    async def find(self, name: str, revision: str) -> Registration:
        """Raises UnknownRevision."""
        return await self._desk.kept(self._desk.registrations.find, name, revision)

    async def settled(self, name: str, revision: str) -> Registration:
        """A revision once it is no longer under way. Raises UnknownRevision."""
        life = self._lives.get((name, revision))
        if life is not None:
            await asyncio.wait([life])
        return await self.find(name, revision)

    async def forget(self, name: str, revision: str) -> None:
        """Remove a revision that is not served. Raises UnknownRevision and WrongState."""
        await self.find(name, revision)
        if self.serving.current(name) == revision:
            raise WrongState(f"revision {revision} of {name!r} is served; swap or roll back to another first")
        life = self._lives.get((name, revision))
        if life is not None:
            life.cancel()
            await asyncio.wait([life])
        await self.serving.forget(name, revision)

    # ---- the life of a revision ----

    def _begin(self, registration: Registration) -> None:
        """Unless it is begun, or the next server is to begin it."""
        key = registration.application, registration.revision
        if key in self._lives or self.leaving.is_set():
            return
        life = asyncio.create_task(self._live(registration))
        self._lives[key] = life

        def ended(_: asyncio.Task[None]) -> None:
            self._lives.pop(key, None)
            self.progress.pop(key, None)

        life.add_done_callback(ended)

    async def _live(self, one: Registration) -> None:
        try:
            await self._grow(one)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, PeekserveError):
                LOG.exception("revision %s of %s", one.revision, one.application)
            self.serving.free(one.application, one.revision)
            with suppress(PeekserveError):
                known = await self.find(one.application, one.revision)
                await self._note(known, Life.FAILED, f"{error}")

    async def _grow(self, one: Registration) -> None:
        name, revision = one.application, one.revision
        async with self._one_at_a_time:
            one = await self._note(one, Life.CHECKING, "its files and models are looked at")
            try:
                root = self._desk.shelf.root(name, revision)
                found = await self._desk.onboard(root, name, self._progress(one))
            finally:
                await asyncio.gather(*self._notes)
        one = replace(one, faults=found.faults, profile=found.profile)
        if found.application is None:
            await self._note(one, found.ended, found.why)
            return
        served = self._driver.applications.get(name)
        mine = replace(found.application, edition=revision)
        why = worse(mine, served, await self._same_data(mine, served)) if served is not None else ""
        if why:
            await self._note(one, Life.REJECTED, why, found)
            return
        one = await self._note(one, Life.SHADOWING, "copies of live requests go to it", found)
        one, why = await self._shadow(one, mine, served)
        if why:
            self.serving.free(name, revision)
            await self._note(one, Life.REJECTED, why)
        elif one.by_hand:
            self.serving.free(name, revision)
            await self._note(one, Life.READY, "it waits to be swapped in")
        else:
            await self._desk.kept(self._desk.registrations.put, one)
            if not await self.serving.follow(one):
                now = self.serving.current(name) or "nothing"
                why = f"{now} took the place of {one.parent or 'nothing'} meanwhile: swap it in by hand"
                await self._note(one, Life.READY, why)

    async def _shadow(
        self, one: Registration, mine: Application, served: Application | None
    ) -> tuple[Registration, str]:
        """The revision with its report, and why it is rejected; empty where it is not."""
        skipped = "nothing is served under its name" if served is None else unlike(mine, served)
        name, revision, rows = one.application, one.revision, one.shadow_rows
        if not rows:
            skipped = "none was asked for"
        if skipped or served is None:
            return replace(one, report={"skipped": skipped}), ""
        candidate = await self.serving.bring(name, revision, mine)
        trouble = await self.serving.load(candidate)
        if trouble:
            return one, trouble

        def tell(compared: int) -> None:
            progress = Progress(Life.SHADOWING, "rows of live requests", compared, rows)
            self.progress[name, revision] = progress

        tell(0)
        shadow = Shadow(self._driver, candidate, rows, tell)
        end = self._mirror.add(shadow)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._shadow_s):
                    await shadow.done.wait()
        finally:
            end()
        one = replace(one, report=shadow.seen.told())
        if shadow.seen.failed:
            return one, f"it failed on copies of live requests: {'; '.join(shadow.seen.failed)}"
        return one, ""

    async def _same_data(self, mine: Application, served: Application | None) -> bool:
        """Were both measured on the same validation data?"""
        if served is None or not (mine.validation and served.validation) or mine.classes != served.classes:
            return False
        try:
            return await self._desk.kept(filecmp.cmp, mine.validation, served.validation, False)
        except OSError:  # of the repository's own folder, whose files come and go
            return False

    def _progress(self, one: Registration) -> Callable[[Progress], None]:
        key = one.application, one.revision

        def tell(progress: Progress) -> None:
            if key not in self.progress:
                return  # its life is over, and these are words of the process that were still on their way
            if progress.stage is Life.PROFILING and self.progress[key].stage is not Life.PROFILING:
                noted = asyncio.ensure_future(self._note(one, Life.PROFILING, "its variants are measured"))
                self._notes.add(noted)
                noted.add_done_callback(self._notes.discard)
            self.progress[key] = progress

        self.progress[key] = Progress(Life.CHECKING)
        return tell

    async def _note(
        self, one: Registration, state: Life, why: str, found: Onboarded | None = None
    ) -> Registration:
        one = replace(one, state=state, why=why, changed_at=self._desk.unix_s())
        await self._desk.kept(self._desk.registrations.put, one, found.compiled if found else None)
        self._desk.log(one.application, one.revision, state.value, why)
        return one
