"""What a registrar stands between, scripted: a process that looks at revisions, and a driver that serves them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.messages import Answer
from peekserve.domain.profile import Quality
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source
from peekserve.errors import InvalidRequest
from peekserve.live.editions import BY_HAND, READY, UNAVAILABLE
from peekserve.live.onboarding import Onboarded, Progress
from peekserve.live.registering import Registrar, Wanted
from peekserve.live.serving import Desk, Serving
from peekserve.live.shadowing import Mirror
from peekserve.state.registrations import Fault, Life, Registration, Registrations
from peekserve.state.shelf import Shelf
from tests.server.scripted import PLAIN

BOTH = ("small", "large")


def judged(right: int, of: int = 200) -> Quality:
    each = of // 4
    rows = ((right - 3 * each, of - right, 0), (0, each, 0), (0, 0, 2 * each))
    return Quality.from_confusion(np.array(rows))


def an_application(right: int = 190, name: str = "plain", **other: object) -> Application:
    variants = tuple(replace(v, quality=judged(right)) for v in PLAIN.variants)
    return replace(PLAIN, name=name, variants=variants, **other)


class Driver:
    """Serves nothing, and remembers what it was told. `answer` says what copies get; None holds on to them."""

    def __init__(self, *applications: Application) -> None:
        self.applications = {app.name: app for app in applications}
        self.editions = {app.key: app for app in applications}
        self.told: list[tuple[str, ...]] = []
        self.offered: dict[str, tuple[str, ...]] = {}
        self.trouble: dict[str, str] = {}
        self.answer: Callable[[Request], Answer | None] = lambda request: says(request, 1)
        self.copies: list[Request] = []
        self.held: dict[str, asyncio.Future[Answer]] = {}

    async def register(self, application: Application) -> None:
        assert application.key not in self.editions
        self.editions[application.key] = application
        self.told.append(("register", application.key))

    def activate(self, key: str) -> None:
        self.applications[self.editions[key].name] = self.editions[key]
        self.offered.pop(key, None)
        self.told.append(("activate", key))

    def withdraw(self, name: str) -> None:
        del self.applications[name]
        self.told.append(("withdraw", name))

    def offer(self, key: str, variants: tuple[str, ...]) -> asyncio.Future[dict[str, str]]:
        self.told.append(("offer", key, *variants))
        self.offered[key] = variants
        done: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        done.set_result(self.trouble if variants else {})
        return done

    def state(self, application: str, variant: str) -> tuple[str, str]:
        offered = self.offered.get(self.applications[application].key, BOTH)
        return (READY, "") if variant in offered else (UNAVAILABLE, BY_HAND)

    def submit(self, request: Request, inputs: object, lengths: object) -> asyncio.Future[Answer]:
        self.copies.append(request)
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        answer = self.answer(request)
        if answer is None:
            self.held[request.id] = done
        else:
            done.set_result(answer)
        return done

    def cancel(self, request_id: str) -> None:
        self.held.pop(request_id).set_result(Answer(request_id, Outcome.CANCELLED, Reason.CANCELLED))

    def now(self) -> float:
        return 10.0


def says(request: Request, label: int, **other: float) -> Answer:
    scores = tuple(float(i == label) for i in range(3))
    row = RowAnswer(label, scores, Source.MODEL, request.pinned or "small", 0.75)
    return Answer(request.id, Outcome.ANSWERED, Reason.OK, (replace(row, **other),) * request.rows)


class Looks:
    """What the process finds in each folder, by what its application.yaml says. `gate`: it waits for this."""

    def __init__(self) -> None:
        self.found = {"good": an_application(192), "weak": an_application(152)}
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0
        self.tell: Callable[[Progress], None] = lambda progress: None

    async def __call__(self, root: Path, name: str, tell: Callable[[Progress], None]) -> Onboarded:
        self.asked, self.tell = self.asked + 1, tell
        await self.gate.wait()
        word = (root / name / "application.yaml").read_text().split()[0]
        if word == "wrong":
            return Onboarded(Life.INVALID, "1 problem", (Fault("application.yaml", 3, "no such key"),))
        if word == "crash":
            return Onboarded(Life.FAILED, "the process that looked at it ended by signal SIGSEGV")
        tell(Progress(Life.PROFILING, "", 0, 3))
        tell(Progress(Life.PROFILING, "small", 1, 3))
        made = replace(self.found[word], validation=str(root / name / "validation.npz"))
        short = {"small": {"accuracy": 0.9}}
        return Onboarded(Life.PROFILING, "", (), short, made, msgspec.msgpack.encode(made))


class Stage:
    def __init__(
        self,
        tmp_path: Path,
        refused: str = "",
        shadow_s: float = 60.0,
        known: bool = True,
        unpack: Callable[[Path, Path], None] | None = None,
        load_s: float = 60.0,
    ) -> None:
        self.state = tmp_path / "state"
        folder = tmp_path / "plain"
        folder.mkdir(exist_ok=True)
        (folder / "application.yaml").write_text("own")
        (folder / "validation.npz").write_bytes(b"same")
        self.own = an_application(190, root=str(folder), validation=str(folder / "validation.npz"))
        self.driver = Driver(an_application(name="other"), *([self.own] if known else []))
        self.looks = Looks()
        self.mirror = Mirror()
        self.seconds = 0.0
        registrations = Registrations(self.state / "state.sqlite")
        self.logged: list[tuple[str, str, str, str]] = []
        self.desk = Desk(
            registrations,
            Shelf(self.state),
            unpack or lay_out,
            self.looks,
            self.tick,
            ThreadPoolExecutor(1),
            lambda *told: self.logged.append(told),
        )
        own = {"plain": self.own} if known else {}
        serving = Serving(self.driver, self.driver, self.desk, own, load_s)
        self.registrar = Registrar(serving, self.mirror, self.desk, refused, shadow_s)

    def tick(self) -> float:
        self.seconds += 1.0
        return self.seconds

    async def send(
        self, word: str, name: str = "plain", by_hand: bool = False, rows: int = 0
    ) -> Registration:
        """An archive whose application.yaml is this word, from here to where it stands in the end."""
        one = await self.put(word, name, by_hand, rows)
        return await self.registrar.settled(name, one.revision)

    async def put(self, word: str, name: str = "plain", by_hand: bool = False, rows: int = 0) -> Registration:
        archive = self.state.parent / "archive"
        archive.write_text(word)
        return await self.registrar.upload(name, archive, Wanted(by_hand, rows))

    async def live(self, label: int = 1, **other: object) -> None:
        """A request of a client, answered with this class."""
        request = Request("r1", self.driver.applications["plain"].key, 9.0, 9.2, **other)  # type: ignore[arg-type]
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.mirror.accepted(request, {}, None, done)
        done.set_result(says(request, label))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def until(self, revision: str, state: Life) -> None:
        while (await self.registrar.find("plain", revision)).state is not state:
            await asyncio.sleep(0)


def lay_out(archive: Path, folder: Path) -> None:
    word = archive.read_text()
    if word == "bad":
        raise InvalidRequest("the archive is damaged")
    (folder / "application.yaml").write_text(word)
    (folder / "validation.npz").write_bytes(b"same" if word != "other" else b"another")
