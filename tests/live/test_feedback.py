"""True classes on the live side: in pieces between other events, within a bounded queue, kept by a thread."""

import asyncio
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.feedback import Remembered
from peekserve.domain.feedback import Lesson, Verdict
from peekserve.domain.messages import Acknowledge, Recalled
from peekserve.domain.request import Outcome
from peekserve.errors import InvalidConfiguration, TooFast
from peekserve.live.alarm import QUIET_TURNS
from peekserve.live.confirming import Confirmations, Told
from peekserve.live.journalling import Journalling, replay
from peekserve.live.keeping import Keeper
from peekserve.state.history import Edition, History
from peekserve.state.journal import JournalReader, JournalWriter
from tests.core.stories import a_request, an_application
from tests.live.test_driver import SPEC, Stage, on_stage

LESSON = Lesson("app", "small", 0, 0, 1, 0.75, (0.5, 0.5))


class Noted:
    """An observer that writes down the kinds of events in their order."""

    def __init__(self):
        self.events = []

    def event(self, event, now):
        self.events.append(event)

    def commands(self, commands, now):
        pass


class Learns:
    """Remembers requests of this many rows, and accepts everything."""

    def __init__(self, rows=1):
        self.rows, self.pieces = rows, []

    def remembered(self, request_id):
        return Remembered(an_application(), self.rows, frozenset())

    def confirm(self, request_id, labels):
        self.pieces.append((request_id, labels))
        learnt = tuple(LESSON for label in labels if label is not None)
        return Acknowledge(request_id, Verdict.ACCEPTED, "app", learnt)


def queue(learner, **kwargs):
    return Confirmations(learner, asyncio.get_running_loop(), **kwargs)


async def answered(stage, *names, **kwargs):
    answers = await stage.answer(*[stage.submit(name, **kwargs) for name in names])
    assert {answer.outcome for answer in answers} == {Outcome.ANSWERED}


@on_stage
async def test_who_confirms_hears_what_became_of_it():
    stage = await Stage().ready()
    await answered(stage, "r1", "r2")
    told = [
        Told("r1", ("b",)),
        Told("r1", (1,)),
        Told("ghost", ("a",)),
        Told("r2", ("zebra",)),
        Told("r2", (2,)),
    ]
    heard = await queue(stage.driver).submit([*told, Told("r2", ("a", "b")), Told("r2", (0,))])
    assert [one.verdict.value for one in heard] == [
        "accepted", "repeated", "unknown", "invalid", "invalid", "invalid", "accepted",
    ]  # fmt: skip
    assert "no class 'zebra' (row 0); there are a, b; or as numbers, not as text, 0 to 1" in heard[3].detail
    assert [one.application for one in heard] == ["app", "app", "", "app", "app", "app", "app"]
    drift = stage.driver.drift("app")
    assert (drift.confirmed, drift.right) == (2, pytest.approx(0.5, abs=0.01))


@on_stage
async def test_one_that_is_under_way_is_told_to_wait():
    stage = await Stage().ready()
    future = stage.submit()
    [heard] = await queue(stage.driver).submit([Told("r1", ("a",))])
    assert heard.verdict is Verdict.UNANSWERED
    await stage.answer(future)
    [heard] = await queue(stage.driver).submit([Told("r1", ("a",))])
    assert heard.verdict is Verdict.ACCEPTED


@on_stage
async def test_a_flood_of_feedback_lets_every_other_event_pass():
    stage = await Stage().ready()
    names = [f"r{i}" for i in range(300)]
    await answered(stage, *names)
    noted = Noted()
    stage.driver.observe(noted)
    flood = queue(stage.driver, per_turn=4).submit([Told(name, ("a",)) for name in names])
    await answered(stage, *[f"late{i}" for i in range(5)])
    assert not flood.done()
    kinds = Counter(type(event).__name__ for event in noted.events)
    # Everything that five requests need took some turns of the loop, and four confirmations went into each of them; an
    # alarm for now listens for some turns more whether others come.
    assert kinds["BatchDone"] >= 1
    assert kinds["Confirmed"] <= 40 * (QUIET_TURNS + 1)
    assert {one.verdict for one in await flood} == {Verdict.ACCEPTED}
    assert stage.driver.drift("app").confirmed == 300


@on_stage
async def test_a_turn_of_the_loop_learns_a_few_rows_and_no_more():
    learner = Learns()
    confirmations = queue(learner, per_turn=3)
    done = confirmations.submit([Told(f"r{i}", (0,)) for i in range(10)])
    learnt = []
    while not done.done():
        await asyncio.sleep(0)
        learnt.append(len(learner.pieces))
    assert learnt[:4] == [3, 6, 9, 10]


@on_stage
async def test_a_request_of_many_rows_is_learnt_in_pieces_and_acknowledged_whole():
    learner = Learns(rows=10)
    labels = (0, 1, None, 0, 1, 0, 1, 0, 1, 0)
    [heard] = await queue(learner, per_turn=4).submit([Told("r1", labels)])
    assert (heard.verdict, len(heard.lessons)) == (Verdict.ACCEPTED, 9)
    assert [sum(label is not None for label in piece) for _, piece in learner.pieces] == [4, 4, 1]
    merged = [next((p[row] for _, p in learner.pieces if p[row] is not None), None) for row in range(10)]
    assert tuple(merged) == labels


@on_stage
async def test_and_refused_whole_where_one_row_is_wrong():
    stage = await Stage().ready()
    now = stage.driver.now()
    request = replace(a_request("r1", rows=6), arrived_at=now, due_at=now + 5.0)
    await stage.answer(stage.driver.submit(request, {"x": np.zeros((6, 2), np.float32)}))
    confirmations = queue(stage.driver, per_turn=2)
    labels = ("a", "b", "a", "b", "a", "b")
    heard = await confirmations.submit(
        [
            Told("r1", (*labels[:5], "c")),
            Told("r1", labels[:5]),
            Told("r1", (None,) * 5 + ("b",)),
            Told("r1", labels),
            Told("r1", (*labels[:5], None)),
        ]
    )
    assert [one.verdict.value for one in heard] == ["invalid", "invalid", "accepted", "repeated", "accepted"]
    assert [len(one.lessons) for one in heard] == [0, 0, 1, 0, 5]


@on_stage
async def test_what_does_not_fit_is_turned_away_and_none_of_it_taken():
    learner = Learns()
    confirmations = queue(learner, most=5)
    first = confirmations.submit([Told("r1", (0,))] * 4)
    with pytest.raises(TooFast, match="2 rows of feedback came and 1 more can wait"):
        confirmations.submit([Told("r2", (0,))] * 2)
    await first
    await confirmations.submit([Told("r2", (0,))] * 5)
    assert len(learner.pieces) == 9


class Slow:
    """A history that writes when it is let, and remembers how much it was given at once."""

    def __init__(self):
        self.may, self.added, self.broken = threading.Event(), [], False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def add(self, lessons, confirmed_at):
        self.may.wait(10)
        if self.broken:
            raise InvalidConfiguration("the disk is full")
        self.added.append((len(lessons), confirmed_at))


@on_stage
async def test_a_disk_that_does_not_keep_up_is_told_to_who_confirms():
    history = Slow()
    keeper = Keeper(history, lambda: 7.0, most=3)
    keeper.start()
    learner = Learns()
    confirmations = queue(learner, keeper=keeper)
    heard = await confirmations.submit([Told("r1", (0,)), Told("r2", (1,)), Told("r3", (1,))])
    keeper.commands(heard, 0.0)
    assert keeper.room() == 0
    with pytest.raises(TooFast):
        confirmations.submit([Told("r4", (0,))])
    history.may.set()
    keeper.stop()
    assert keeper.room() == 3
    assert sum(size for size, _ in history.added) == 3
    assert {at for _, at in history.added} == {7.0}


@on_stage
async def test_who_confirms_hears_of_it_when_it_is_written():
    history = Slow()
    keeper = Keeper(history, lambda: 0.0)
    stage = await Stage().ready()
    stage.driver.observe(keeper)
    await answered(stage, "r1")
    keeper.start()
    heard = queue(stage.driver, keeper=keeper).submit([Told("r1", ("a",))])
    while stage.driver.drift("app").confirmed == 0:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not heard.done()  # learnt, and not written yet
    history.may.set()
    assert (await heard)[0].verdict is Verdict.ACCEPTED
    assert [size for size, _ in history.added] == [1]
    keeper.stop()


def test_a_disk_that_is_full_ends_the_keeping_and_nothing_else(caplog):
    history = Slow()
    history.broken = True
    history.may.set()
    keeper = Keeper(history, lambda: 0.0)
    keeper.start()
    keeper.commands([Acknowledge("r1", Verdict.ACCEPTED, "app", (LESSON, LESSON))], 0.0)
    keeper.stop()
    assert keeper.lost == 2
    assert keeper.room() == Keeper(history, lambda: 0.0).room()
    assert "2 confirmed rows could not be kept: the disk is full" in caplog.text


def test_what_was_learnt_outlives_the_driver_and_replays_to_the_same_commands(tmp_path):
    editions = {"app": Edition(("a", "b"), {None: "peek", "small": "sha-small", "large": "sha-large"})}

    def live(journal, first):
        async def story():
            stage = Stage()
            noted = Noted()
            with History(tmp_path / "history", editions) as history:
                lessons = history.lessons()
            keeper = Keeper(History(tmp_path / "history", editions), lambda: 1.0)
            keeper.start()
            with JournalWriter(journal, SPEC, [stage.app]) as writer:
                for observer in (noted, Journalling(writer), keeper):
                    stage.driver.observe(observer)
                stage.driver.recall(lessons)
                before = stage.driver.drift("app")
                await stage.ready()
                names = [f"{first}{i}" for i in range(40)]
                await answered(stage, *names)
                told = [Told(name, ("ab"[i % 3 == 0],)) for i, name in enumerate(names)]
                await queue(stage.driver).submit([*told, Told("ghost", ())])
                after = stage.driver.drift("app")
                stage.driver.stop()
            keeper.stop()
            return before, after, noted

        return asyncio.run(asyncio.wait_for(story(), 20))

    before, after, _ = live(tmp_path / "one.journal", "r")
    assert (before.confirmed, after.confirmed) == (0, 40)
    again, _, noted = live(tmp_path / "two.journal", "s")
    assert (again.confirmed, again.right, again.believed) == (40, after.right, after.believed)
    assert isinstance(noted.events[0], Recalled)
    for journal in ("one.journal", "two.journal"):
        reader = JournalReader(tmp_path / journal)
        replayed = replay(reader)
        assert replayed.difference is None
        assert replayed.steps > 80
