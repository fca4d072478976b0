"""What few groups say is drawn together, and what many say is left as it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.awareness.agreement import by_agreement, edges_for
from peekserve.awareness.witnesses import pulled, recalls
from peekserve.errors import InvalidData

CLASSES = 6
CELLS = np.repeat(np.arange(CLASSES), 60)


def means(own, values, free=CLASSES - 1):
    return pulled(values[None], CELLS, CLASSES, own, free)[0]


def plain(values):
    return np.bincount(CELLS, values) / 60


def people(number, spread, seed=0):
    """(values, groups): `number` people in each cell, of whom each is right more or less often by luck of its own."""
    rng = np.random.default_rng(seed)
    own = np.arange(len(CELLS)) % number
    of_each = np.clip(rng.normal(0.6, spread, (CLASSES, number)), 0.0, 1.0)
    return (rng.random(len(CELLS)) < of_each[CELLS, own]).astype(float), own


def test_cells_that_differ_by_no_more_than_their_people_do_are_drawn_together():
    values, own = people(2, 0.2)
    found = means(own, values)
    assert np.ptp(found) < 0.7 * np.ptp(plain(values))
    # Were the rows independent, the same counts would be taken for what they are.
    assert np.ptp(means(np.arange(len(CELLS)), values)) > 1.2 * np.ptp(found)


def test_what_is_drawn_together_is_nearer_the_truth_of_other_people():
    gone, kept = 0.0, 0.0
    for seed in range(40):
        values, own = people(2, 0.2, seed)
        gone += float(((means(own, values) - 0.6) ** 2).sum())
        kept += float(((plain(values) - 0.6) ** 2).sum())
    assert gone < 0.5 * kept


def test_cells_that_truly_differ_keep_what_was_counted():
    rng = np.random.default_rng(1)
    truth = np.linspace(0.1, 0.9, CLASSES)
    values = (rng.random(len(CELLS)) < truth[CELLS]).astype(float)
    assert means(np.arange(len(CELLS)) % 20, values) == pytest.approx(plain(values), abs=0.03)


def test_one_group_for_each_cell_is_one_witness_whatever_its_rows():
    values, _ = people(1, 0.2)
    alone = means(np.zeros(len(CELLS), int), values)
    among = means(np.arange(len(CELLS)), values)
    assert np.ptp(alone) < np.ptp(among)


def test_of_three_cells_nobody_knows_what_they_have_in_common():
    values = np.array([1.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    found = pulled(values[None], np.repeat([0, 1, 2], 2), 3, np.arange(6), 2)[0]
    assert found.tolist() == [1.0, 0.5, 0.0]


def test_a_cell_without_rows_is_at_the_centre_and_single_rows_tell_nothing_apart():
    values = np.array([1.0, 0.0, 1.0, 1.0])
    found = pulled(values[None], np.array([0, 0, 1, 1]), 3, np.arange(4), 1)[0]
    assert found[:2].tolist() == [0.5, 1.0]
    assert found[2] == pytest.approx(0.75)
    assert pulled(values[None], np.arange(4), 4, np.arange(4), 3)[0].tolist() == [0.75] * 4


def test_what_all_find_hard_stays_hard_and_who_was_lucky_there_is_not_believed():
    """Class 0 is hard for both; the second variant was right on it by the luck of one of two people."""
    rng = np.random.default_rng(2)
    own = np.arange(len(CELLS)) % 2
    chance = np.where(CELLS == 0, 0.1, 0.8)
    first = rng.random(len(CELLS)) < chance
    second = np.where((CELLS == 0) & (own == 0), True, rng.random(len(CELLS)) < chance)
    said = np.where(np.stack((first, second)), CELLS, (CELLS + 1) % CLASSES)
    found = recalls(said, CELLS, own, CLASSES)
    counted = np.array([plain(said_by == CELLS) for said_by in said])
    assert found[:, 0].mean() < found[:, 1:].mean() - 0.2
    assert found[1, 0] - found[0, 0] < 0.8 * (counted[1, 0] - counted[0, 0])


def test_one_variant_alone_has_recalls_too():
    found = recalls(CELLS[None], CELLS, None, CLASSES)
    assert found.tolist() == [[1.0] * CLASSES]


def test_the_recalls_of_a_profile_end_with_those_whatever_the_votes_say():
    values, own = people(2, 0.2)
    said = np.where(values > 0.0, CELLS, (CELLS + 1) % CLASSES)[None]
    counts = 5.0 * np.eye(CLASSES)[CELLS]
    (apart,) = by_agreement(said, CELLS, own, counts, edges_for(5))
    assert np.shape(apart) == (5, CLASSES)
    assert apart[-1] == tuple(recalls(said, CELLS, own, CLASSES)[0])
    assert apart[0] == pytest.approx(apart[-1])  # nobody voted otherwise
    no_votes = by_agreement(said, CELLS, own, counts, edges_for(5), np.zeros(len(CELLS), np.bool_))
    assert no_votes[0][3] == pytest.approx(no_votes[0][-1])


def test_answers_that_do_not_fit_are_told():
    with pytest.raises(InvalidData, match=r"2 labels and answers of shape \(1, 3\) do not fit"):
        recalls(np.zeros((1, 3), int), np.zeros(2, int), None, 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 40), st.integers(1, 6))
def test_recalls_are_shares_and_lie_among_what_was_counted(seed, variants, rows, groups):
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(4, size=rows), rng.integers(4, size=(variants, rows))
    own = rng.integers(groups, size=rows)
    found = recalls(said, labels, own, 4)
    assert found.shape == (variants, 4)
    assert np.isfinite(found).all()
    assert 0.0 <= found.min() <= found.max() <= 1.0
    swapped = rng.permutation(rows)
    assert recalls(said[:, swapped], labels[swapped], own[swapped], 4) == pytest.approx(found)
