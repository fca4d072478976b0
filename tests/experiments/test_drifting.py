"""The drift score on what real peeks said of real data, in the mixes of the shifts that were measured before."""

import numpy as np
import pytest

from peekserve.awareness.drift import Shift
from peekserve.experiments.sneakpeek.recording import load

# Shares before, shares after, and in how many rows the score passes 3 (docs/feedback.md).
SHIFTS = {
    "falls": ([0.95, 0.05], [0.5, 0.5], 110),
    "keywords": ([1 / 6] * 6, [0.7] + [0.06] * 5, 220),
    "ecg": ([0.8, *[0.2 / 6] * 6], [0.1] + [0.15] * 6, 110),
}


@pytest.mark.parametrize("name", SHIFTS)
def test_it_is_quiet_before_the_shift_and_heard_soon_after(name):
    before, after, within = SHIFTS[name]
    recording = load(name)
    votes = recording.counts(5)
    by_class = [np.flatnonzero(recording.labels == c) for c in range(votes.shape[1])]
    quiet = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shift = Shift(votes.shape[1])
        for shares, rows in ((before, 2000), (after, within)):
            for number, label in enumerate(rng.choice(len(shares), rows, p=np.array(shares) / sum(shares))):
                shift.see(votes[rng.choice(by_class[label])][None])
                if shares is before and number % 10 == 0:
                    quiet.append(shift.score)
        assert shift.score > 3.0, seed
    assert np.mean(np.array(quiet) < 3.0) >= 0.99
    assert np.median(quiet) <= 1.0
