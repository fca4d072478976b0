"""Figures 5 and 6 in real time: a small piece of what `sneakpeek-live` runs, with a worker process."""

from collections import Counter

from peekserve.experiments.service import seen_in, service_of
from peekserve.experiments.sneakpeek.lab import SNEAKPEEK, Setting, Stage
from peekserve.experiments.sneakpeek.live import live, simulated
from tests.experiments.stand_ins import a_lab


def test_a_window_lived_through_is_planned_as_its_simulation_is(tmp_path):
    lab = a_lab(windows=2)
    stage = Stage(lab, Setting(), 0)
    played = live(stage, SNEAKPEEK, lab.device.window_s, tmp_path / "live.journal")
    assert len(played) == 2 * lab.device.requests
    assert Counter(one.request_id for one in played).most_common(1)[0][1] == 1
    seen = seen_in(tmp_path / "live.journal")
    assert all(
        pace >= 0.99 for paces in seen.paces.values() for _, pace in paces
    )  # a paced batch is never early
    again = simulated(stage, SNEAKPEEK, lab.device.window_s, service_of(seen, [seen]))
    # The same answers to the same requests, where time decides nothing: who the plan chose for each.
    assert [one.request_id for one in again] == [one.request_id for one in played]
    same = [one.variants == other.variants for one, other in zip(again, played, strict=True)]
    assert sum(same) >= len(same) - 2, (
        "live arrivals are a millisecond off, which may move a choice, not most"
    )
