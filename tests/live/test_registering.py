"""The life of a revision: a scripted process looks at it, a scripted driver serves it."""

import asyncio
from dataclasses import replace

import pytest

from peekserve.domain.messages import Answer, Confirmed
from peekserve.domain.request import SHADOW, Outcome, Reason
from peekserve.errors import (
    InvalidRequest,
    NoRoom,
    NotOffered,
    UnknownApplication,
    UnknownRevision,
    WrongState,
)
from peekserve.live.onboarding import Progress
from peekserve.live.registering import Wanted
from peekserve.live.serving import finding_room
from peekserve.live.shadowing import AT_ONCE
from peekserve.state.registrations import NOTHING, OWN, Life, Registration, Registrations
from peekserve.state.shelf import Shelf
from tests.live.registered import BOTH, Stage, an_application, says


async def test_a_good_revision_is_loaded_before_anybody_gets_it(tmp_path):
    stage = Stage(tmp_path)
    one = await stage.send("good")
    assert (one.state, one.why) == (Life.ACTIVE, "it is served")
    key = f"plain@{one.revision}"
    assert stage.driver.told == [("register", key), ("offer", key, *BOTH), ("activate", key)]
    assert stage.driver.applications["plain"].edition == one.revision
    assert one.profile == {"small": {"accuracy": 0.9}}
    assert one.report == {"skipped": "none was asked for"}
    assert one.sha.startswith(one.revision)
    await stage.registrar.stop()


@pytest.mark.parametrize(
    ("word", "state", "why"),
    [
        ("wrong", Life.INVALID, "1 problem"),
        ("crash", Life.FAILED, "SIGSEGV"),
        ("weak", Life.REJECTED, "152 of 200 right, and small, which is served, 190 of 200"),
    ],
)
async def test_a_bad_one_never_takes_over(tmp_path, word, state, why):
    stage = Stage(tmp_path)
    one = await stage.send(word)
    assert one.state is state
    assert why in one.why
    assert not stage.driver.told
    with pytest.raises(WrongState, match=one.revision):
        await stage.registrar.serving.swap("plain", one.revision)
    assert stage.driver.applications["plain"].edition == ""
    if word == "wrong":
        assert [str(fault) for fault in one.faults] == ["application.yaml:3: no such key"]
    await stage.registrar.stop()


async def test_one_that_does_not_load_never_takes_over(tmp_path):
    stage = Stage(tmp_path)
    stage.driver.trouble = {"w-small": "out of memory"}
    one = await stage.send("good")
    assert (one.state, one.why) == (Life.FAILED, "it could not be loaded: out of memory")
    assert stage.driver.told[-1] == ("offer", f"plain@{one.revision}")
    assert stage.driver.applications["plain"] is stage.own
    await stage.registrar.stop()


@pytest.mark.parametrize(("rows", "state"), [(0, Life.FAILED), (5, Life.REJECTED)])
async def test_a_load_that_never_ends_is_not_waited_for(tmp_path, rows, state):
    stage = Stage(tmp_path, load_s=0.01)
    stage.driver.offer = lambda *_: asyncio.get_running_loop().create_future()
    one = await stage.send("good", rows=rows)
    assert (one.state, one.why) == (state, "it was not loaded within 0.01 s")
    assert stage.driver.applications["plain"] is stage.own
    await stage.registrar.stop()


async def test_worse_on_other_data_is_not_compared(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.found["other"] = an_application(152)
    assert (await stage.send("other")).state is Life.ACTIVE
    await stage.registrar.stop()


async def test_a_shadow_answers_copies_that_nobody_sees(tmp_path):
    stage = Stage(tmp_path)
    one = await stage.put("good", rows=6)
    await stage.until(one.revision, Life.SHADOWING)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    for label in (1, 1, 2):
        await stage.live(label, rows=2)
    await stage.live(1, pinned="small")  # whoever pins a variant of what is served says nothing of another
    one = await stage.registrar.settled("plain", one.revision)
    assert one.state is Life.ACTIVE
    assert one.report is not None
    assert (one.report["rows"], one.report["agreed"], one.report["failed"]) == (6, 4, {})
    assert one.report["by_variant"] == {
        "small": {"rows": 4, "agreed": 4},
        "large": {"rows": 2, "agreed": 0},
    }
    assert one.report["chosen"]["agreed"] == 2
    assert (one.report["expected_accuracy"], one.report["expected_accuracy_served"]) == (0.75, 0.75)
    assert [copy.pinned for copy in stage.driver.copies] == [None, "small", "large"]
    first = stage.driver.copies[0]
    assert (first.application, first.priority, first.due_at) == (f"plain@{one.revision}", SHADOW, 12.0)
    await stage.registrar.stop()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda r: Answer(r.id, Outcome.FAILED, Reason.BACKEND_ERROR, detail="it raised"), "it raised"),
        (lambda r: says(r, 1, scores=(float("nan"), 0.0, 1.0)), "finite"),
    ],
)
async def test_a_shadow_that_fails_once_is_rejected(tmp_path, answer, why):
    stage = Stage(tmp_path)
    stage.driver.answer = answer
    one = await stage.put("good", rows=50)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    await stage.live()
    one = await stage.registrar.settled("plain", one.revision)
    assert one.state is Life.REJECTED
    assert why in one.why
    assert ("activate", f"plain@{one.revision}") not in stage.driver.told
    assert stage.driver.told[-1] == ("offer", f"plain@{one.revision}")
    assert not stage.mirror.shadowing
    await stage.registrar.stop()


async def test_a_copy_that_cannot_be_handed_in_is_no_clients_trouble(tmp_path):
    def broken(request):
        raise RuntimeError("no place for it")

    stage = Stage(tmp_path)
    stage.driver.answer = broken
    one = await stage.put("good", rows=50)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    await stage.live()
    one = await stage.registrar.settled("plain", one.revision)
    assert (one.state, "no place for it" in one.why) == (Life.REJECTED, True)
    await stage.registrar.stop()


async def test_a_busy_box_and_disagreement_are_no_faults(tmp_path):
    stage = Stage(tmp_path, shadow_s=0.02)
    stage.driver.answer = lambda r: Answer(r.id, Outcome.REFUSED, Reason.OVERLOADED)
    one = await stage.put("good", rows=50)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    await stage.live()
    stage.driver.answer = lambda r: says(r, 0)
    await stage.live(2)
    one = await stage.registrar.settled("plain", one.revision)
    assert one.state is Life.ACTIVE
    assert one.report is not None
    assert (one.report["rows"], one.report["agreed"], one.report["missed"]) == (1, 0, 1)
    await stage.registrar.stop()


async def test_few_copies_are_under_way_and_none_outlives_the_shadow(tmp_path):
    stage = Stage(tmp_path, shadow_s=0.02)
    stage.driver.answer = lambda r: None
    one = await stage.put("good", rows=50)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    for _ in range(5):
        await stage.live()
    assert len(stage.driver.held) == AT_ONCE
    await stage.registrar.settled("plain", one.revision)
    assert not stage.driver.held
    await stage.registrar.stop()


async def test_true_classes_that_are_told_meanwhile_are_counted(tmp_path):
    stage = Stage(tmp_path, shadow_s=0.02)
    stage.driver.answer = lambda r: says(r, 0)
    one = await stage.put("good", rows=50)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    await stage.live(2, rows=2)
    stage.mirror.event(Confirmed("r1", (2, None)), 9.5)
    stage.mirror.event(Confirmed("another", (0,)), 9.5)
    one = await stage.registrar.settled("plain", one.revision)
    assert one.report is not None
    assert one.report["confirmed"] == {"rows": 1, "right": 0, "right_served": 1}
    await stage.registrar.stop()


async def test_by_hand_it_waits_and_holds_no_memory(tmp_path):
    stage = Stage(tmp_path)
    one = await stage.send("good", by_hand=True)
    assert one.state is Life.READY
    assert not stage.driver.told
    await stage.registrar.serving.swap("plain", one.revision)
    assert (await stage.registrar.find("plain", one.revision)).state is Life.ACTIVE
    await stage.registrar.stop()


async def test_roll_back_goes_back_one_by_one_to_the_repositorys_own(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.found["better"] = an_application(198)
    first, second = await stage.send("good"), await stage.send("better")
    states = [one.state for one in await stage.registrar.of("plain")]
    assert states == [Life.RETIRED, Life.ACTIVE]
    serving = stage.registrar.serving
    assert await serving.rollback("plain") == first.revision
    assert (await stage.registrar.find("plain", second.revision)).state is Life.RETIRED
    assert await serving.rollback("plain") == OWN
    assert stage.driver.applications["plain"] is stage.own
    with pytest.raises(WrongState, match="no way back"):
        await serving.rollback("plain")
    await serving.swap("plain", second.revision)
    assert await serving.rollback("plain") == OWN
    assert (await serving.swap("plain", OWN)) is None
    await stage.registrar.stop()


async def test_a_swap_that_nobody_waits_for_any_more_is_whole(tmp_path):
    """What is written down as served is what clients get."""
    stage = Stage(tmp_path)
    one = await stage.send("good", by_hand=True)
    key = f"plain@{one.revision}"
    swap = asyncio.ensure_future(stage.registrar.serving.swap("plain", one.revision))
    while ("offer", key, *BOTH) not in stage.driver.told:
        await asyncio.sleep(0)
    swap.cancel()
    while not swap.done() or stage.registrar.serving.current("plain") != one.revision:
        await asyncio.sleep(0)
    assert swap.cancelled()
    assert (await stage.registrar.find("plain", one.revision)).state is Life.ACTIVE
    await stage.registrar.stop()


async def test_the_last_one_is_not_rolled_back_to_nothing(tmp_path):
    stage = Stage(tmp_path)
    serving = stage.registrar.serving
    one = await stage.send("good", by_hand=True)
    await serving.withdraw("plain")
    await serving.swap("plain", one.revision)
    await serving.withdraw("other")
    with pytest.raises(WrongState, match="all that is served"):
        await serving.rollback("plain")
    assert serving.current("plain") == one.revision
    assert (await stage.registrar.find("plain", one.revision)).state is Life.ACTIVE
    await stage.registrar.stop()


async def test_an_application_that_is_new_comes_and_goes(tmp_path):
    stage = Stage(tmp_path, known=False)
    stage.looks.found["good"] = an_application()
    with pytest.raises(UnknownApplication):
        await stage.registrar.of("plain")
    one = await stage.send("good", rows=10)
    assert (one.state, one.report) == (Life.ACTIVE, {"skipped": "nothing is served under its name"})
    serving = stage.registrar.serving
    await serving.withdraw("plain")
    assert serving.current("plain") == NOTHING
    with pytest.raises(UnknownApplication):
        await serving.withdraw("plain")
    with pytest.raises(WrongState, match="all that is served"):
        await serving.withdraw("other")
    assert await serving.rollback("plain") == one.revision
    assert serving.current("plain") == one.revision
    await stage.registrar.stop()


async def test_whoever_came_first_does_not_take_the_place_of_the_newer(tmp_path):
    stage = Stage(tmp_path, shadow_s=30.0)
    stage.looks.found["better"] = an_application(198)
    slow = await stage.put("good", rows=1)
    while not stage.mirror.shadowing:
        await asyncio.sleep(0)
    quick = await stage.send("better")
    assert quick.state is Life.ACTIVE
    for shadow in list(stage.mirror.shadowing):
        shadow.done.set()
    slow = await stage.registrar.settled("plain", slow.revision)
    assert slow.state is Life.READY
    assert f"{quick.revision} took the place" in slow.why
    await stage.registrar.stop()


async def test_the_newer_takes_the_place_of_one_that_was_quicker(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.found["better"] = an_application(198)
    stage.looks.gate.clear()
    first, second = await stage.put("good"), await stage.put("better")
    assert (second.parent, second.revision != first.revision) == (OWN, True)
    stage.looks.gate.set()
    assert (await stage.registrar.settled("plain", second.revision)).state is Life.ACTIVE
    assert (await stage.registrar.find("plain", first.revision)).state is Life.RETIRED
    await stage.registrar.stop()


async def test_a_shadow_goes_on_beside_what_took_the_place_of_the_other(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.found["better"] = an_application(198)
    first, second = await stage.put("good", rows=1), await stage.put("better", rows=2)
    while len(stage.mirror.shadowing) < 2:
        await asyncio.sleep(0)
    assert stage.registrar.progress["plain", second.revision].total == 2
    await stage.live()
    assert (await stage.registrar.settled("plain", first.revision)).state is Life.ACTIVE
    assert stage.registrar.progress["plain", second.revision].done == 1
    await stage.live()
    second = await stage.registrar.settled("plain", second.revision)
    assert (second.state, (second.report or {})["rows"]) == (Life.ACTIVE, 2)
    await stage.registrar.stop()


async def test_each_step_is_logged(tmp_path):
    stage = Stage(tmp_path)
    one = await stage.send("good")
    await stage.registrar.serving.rollback("plain")
    told = [(revision, state) for name, revision, state, why in stage.logged if name == "plain" and why]
    steps = ("uploaded", "checking", "profiling", "shadowing", "active")
    assert told == [*((one.revision, step) for step in steps), (OWN, "active")]
    await stage.registrar.stop()


async def test_who_went_back_is_not_overruled(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.found["better"] = an_application(198)
    await stage.send("good")
    stage.looks.gate.clear()
    second = await stage.put("better")
    await stage.registrar.serving.rollback("plain")
    stage.looks.gate.set()
    second = await stage.registrar.settled("plain", second.revision)
    assert (second.state, stage.registrar.serving.current("plain")) == (Life.READY, OWN)
    await stage.registrar.stop()


async def test_the_same_again_is_the_same_revision(tmp_path):
    stage = Stage(tmp_path)
    one = await stage.send("good")
    again = await stage.put("good")
    assert (again.revision, again.state) == (one.revision, Life.ACTIVE)
    assert stage.looks.asked == 1
    wrong = await stage.send("wrong")
    assert (await stage.send("wrong")).revision == wrong.revision
    assert stage.looks.asked == 3  # what failed may be tried again
    await stage.registrar.stop()


async def test_sent_twice_at_once_it_lives_once(tmp_path):
    stage = Stage(tmp_path)
    first, second = await asyncio.gather(stage.put("good"), stage.put("good"))
    assert first.revision == second.revision
    assert (await stage.registrar.settled("plain", first.revision)).state is Life.ACTIVE
    assert stage.looks.asked == 1
    await stage.registrar.stop()


async def test_one_that_nobody_looks_after_any_more_goes_on_when_it_is_sent_again(tmp_path):
    """As where the disk was too full to note how it ended."""
    stage = Stage(tmp_path)
    one = await stage.send("wrong")
    await stage.desk.kept(stage.desk.registrations.put, replace(one, state=Life.CHECKING))
    assert (await stage.send("wrong")).state is Life.INVALID
    assert stage.looks.asked == 2
    await stage.registrar.stop()


def test_a_full_database_is_no_room(tmp_path):
    with Registrations(tmp_path / "state.sqlite") as kept:
        kept._opened().execute("PRAGMA max_page_count = 1")  # as many as it has: the disk is full
        with pytest.raises(NoRoom, match="full"), finding_room():
            kept.put(Registration("plain", "abc", "abc", why="x" * 100_000))


async def test_one_file_in_place_of_the_served_one(tmp_path):
    stage = Stage(tmp_path)
    one = await stage.registrar.amend(
        "plain", {"application.yaml": b"good", "cnn/m.onnx": b"m"}, Wanted(False, 0)
    )
    one = await stage.registrar.settled("plain", one.revision)
    assert one.state is Life.ACTIVE
    folder = Shelf(stage.state).folder("plain", one.revision)
    assert (folder / "validation.npz").read_bytes() == b"same"
    two = await stage.registrar.amend("plain", {"cnn/m.onnx": b"n"}, Wanted(True, 0))
    folder = Shelf(stage.state).folder("plain", two.revision)
    assert (folder / "cnn/m.onnx").read_bytes() == b"n"
    assert (folder / "application.yaml").read_text() == "good"
    with pytest.raises(InvalidRequest, match="folder"):
        await stage.registrar.amend("plain", {"cnn": b"x"}, Wanted())
    with pytest.raises(UnknownApplication):
        await stage.registrar.amend("nobody", {"cnn": b"x"}, Wanted())
    await stage.registrar.stop()


async def test_a_candidate_is_forgotten_with_its_files(tmp_path):
    stage = Stage(tmp_path)
    served, other = await stage.send("good"), await stage.put("weak")
    await stage.registrar.forget("plain", other.revision)
    with pytest.raises(UnknownRevision):
        await stage.registrar.find("plain", other.revision)
    assert not Shelf(stage.state).root("plain", other.revision).exists()
    with pytest.raises(WrongState, match="served"):
        await stage.registrar.forget("plain", served.revision)
    kept = {path.read_bytes() for path in (stage.state / "models").iterdir()}
    assert kept == {b"good", b"same"}
    await stage.registrar.stop()


async def test_late_words_of_the_process_bring_nothing_back(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.gate.clear()
    one = await stage.put("good")
    while not stage.looks.asked:
        await asyncio.sleep(0)
    await stage.registrar.forget("plain", one.revision)
    stage.looks.tell(Progress(Life.PROFILING, "small", 1, 3))
    assert not stage.registrar.progress
    with pytest.raises(UnknownRevision):
        await stage.registrar.find("plain", one.revision)
    await stage.registrar.stop()


async def test_what_cannot_be_taken_leaves_nothing_behind(tmp_path):
    stage = Stage(tmp_path)
    with pytest.raises(InvalidRequest, match="damaged"):
        await stage.put("bad")
    with pytest.raises(InvalidRequest, match="name"):
        await stage.put("good", "No Name")
    assert not list((stage.state / "uploads").iterdir())
    refusing = Stage(tmp_path, refused="not under gears")
    with pytest.raises(NotOffered, match="gears"):
        await refusing.put("good")
    await stage.registrar.stop()
    await refusing.registrar.stop()


async def test_what_was_half_done_is_taken_up_by_the_next_server(tmp_path):
    stage = Stage(tmp_path)
    stage.looks.gate.clear()
    one = await stage.put("good")
    await stage.until(one.revision, Life.CHECKING)
    await stage.registrar.stop()
    stray = stage.state / "applications" / "plain" / "0123"
    stray.mkdir()
    after = Stage(tmp_path)
    await after.registrar.tidy()
    await after.registrar.resume()
    assert (await after.registrar.settled("plain", one.revision)).state is Life.ACTIVE
    assert not stray.exists()
    await after.registrar.stop()


async def test_what_comes_in_before_a_server_has_taken_up_the_old_is_begun_once(tmp_path):
    stage = Stage(tmp_path)
    await stage.registrar.tidy()
    stage.looks.gate.clear()
    one = await stage.put("good")
    await stage.until(one.revision, Life.CHECKING)
    await stage.registrar.resume()
    stage.looks.gate.set()
    assert (await stage.registrar.settled("plain", one.revision)).state is Life.ACTIVE
    assert stage.looks.asked == 1
    await stage.registrar.stop()
