import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.application import IndexKind, IndexSpec
from peekserve.errors import InvalidConfiguration
from peekserve.peeking.indexes import AUTO_FLAT, Index, chosen
from peekserve.peeking.neighbours import Neighbours

FLAT = IndexSpec(IndexKind.FLAT)
NEARLY = (IndexKind.IVF, IndexKind.HNSW, IndexKind.LSH)
EVERY = (IndexKind.FLAT, *NEARLY)


def blobs(seed, rows, width=8):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, width))
    return (centres[rng.integers(0, 12, rows)] + 0.4 * rng.normal(size=(rows, width))).astype(np.float32)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_ivf_that_looks_into_every_cell_is_exact(seed):
    rng = np.random.default_rng(seed)
    rows, cells = int(rng.integers(20, 300)), int(rng.integers(1, 12))
    reference, questions = blobs(seed, rows), blobs(seed + 1, 10)
    all_cells = IndexSpec(IndexKind.IVF, cells=cells, probes=cells)
    exact = Index(reference, FLAT).nearest(questions, 5)
    assert np.array_equal(Index(reference, all_cells).nearest(questions, 5), exact)


@pytest.mark.parametrize("kind", NEARLY)
def test_an_approximate_index_finds_nearly_all(kind):
    reference, questions = blobs(1, 3000), blobs(2, 200)
    exact = Index(reference, FLAT).nearest(questions, 5)
    found = Index(reference, IndexSpec(kind)).nearest(questions, 5)
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    assert np.mean(shared) / 5 > 0.9


@pytest.mark.parametrize("kind", EVERY)
def test_two_builds_find_the_same_and_a_row_finds_the_same_alone(kind):
    reference, questions = blobs(3, 2000), blobs(4, 40)
    index = Index(reference, IndexSpec(kind))
    found = index.nearest(questions, 7)
    assert np.array_equal(Index(reference, IndexSpec(kind)).nearest(questions, 7), found)
    alone = np.concatenate([index.nearest(questions[i : i + 1], 7) for i in range(40)])
    assert np.array_equal(alone, found)


def test_a_row_whose_cells_hold_too_few_is_searched_exactly():
    reference, questions = blobs(5, 60), blobs(6, 25)
    few = Index(reference, IndexSpec(IndexKind.IVF, cells=30, probes=1)).nearest(questions, 40)
    assert np.array_equal(few, Index(reference, FLAT).nearest(questions, 40))


def test_the_size_of_the_reference_chooses_the_index_unless_the_owner_does():
    auto = IndexSpec()
    kinds = [chosen(auto, n) for n in (1, AUTO_FLAT, AUTO_FLAT + 1)]
    assert kinds == [IndexKind.FLAT, IndexKind.FLAT, IndexKind.HNSW]
    assert chosen(IndexSpec(IndexKind.LSH), 10) is IndexKind.LSH
    labels = np.zeros(30, int)
    assert Neighbours(blobs(7, 30), labels, 2, 1).index is IndexKind.FLAT
    assert Neighbours(blobs(7, 30), labels, 2, 1, IndexSpec(IndexKind.HNSW)).index is IndexKind.HNSW


@pytest.mark.parametrize("kind", EVERY)
def test_k_larger_than_the_reference_is_refused_by_every_index(kind):
    with pytest.raises(InvalidConfiguration, match="31 of 30 labelled examples cannot be the nearest"):
        Neighbours(blobs(8, 30), np.zeros(30, int), 2, 31, IndexSpec(kind))
    whole = Neighbours(blobs(8, 30), np.arange(30) % 2, 2, 30, IndexSpec(kind))
    assert whole.counts(blobs(9, 3)).tolist() == [[15.0, 15.0]] * 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": IndexKind.FLAT, "bits": 8}, "'bits' is an option of the index 'lsh', not of 'flat'"),
        ({"cells": 8}, "'cells' is an option of the index 'ivf', not of 'auto'"),
        ({"kind": IndexKind.IVF, "breadth": 8}, "'breadth' is an option of the index 'hnsw'"),
        ({"kind": IndexKind.IVF, "cells": 31}, "31 cells cannot be made of 30"),
        ({"kind": IndexKind.IVF, "cells": 3, "probes": 4}, "4 of 3 cells"),
    ],
)
def test_options_that_cannot_be_are_named(options, says):
    with pytest.raises(InvalidConfiguration, match=says):
        Index(blobs(10, 30), IndexSpec(**options))
