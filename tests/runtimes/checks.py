"""What every Runtime keeps, whatever is behind it. Each check gets a maker, so that none sees what another left."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from peekserve.domain.application import Variant
from peekserve.errors import BackendError, InvalidModel
from peekserve.runtimes.base import Runtime
from tests.runtimes.tiny import CLASSES, some_rows


@dataclass(frozen=True)
class Subject:
    make: Callable[[], Runtime]
    variant: Variant
    broken: Variant

    def loaded(self) -> Runtime:
        runtime = self.make()
        runtime.load(self.variant, CLASSES)
        return runtime


def check_scores_sum_to_one(subject: Subject) -> None:
    scores = subject.loaded().run(subject.variant, CLASSES, {"signal": some_rows(5)})
    assert scores.shape == (5, CLASSES)
    assert scores.dtype == np.float64
    assert (scores >= 0.0).all()
    assert np.allclose(scores.sum(axis=1), 1.0, atol=1e-12)


def check_same_input_same_output(subject: Subject) -> None:
    rows = {"signal": some_rows(3)}
    runtime = subject.loaded()
    first = runtime.run(subject.variant, CLASSES, rows)
    assert np.array_equal(first, runtime.run(subject.variant, CLASSES, rows))
    assert np.array_equal(first, subject.loaded().run(subject.variant, CLASSES, rows))


def check_a_batch_equals_its_rows_alone(subject: Subject) -> None:
    rows, runtime = some_rows(8), subject.loaded()
    together = runtime.run(subject.variant, CLASSES, {"signal": rows})
    alone = [runtime.run(subject.variant, CLASSES, {"signal": rows[i : i + 1]})[0] for i in range(8)]
    assert np.abs(together - alone).max() < 1e-5


def check_inputs_are_left_alone(subject: Subject) -> None:
    rows = some_rows(3)
    before = rows.copy()
    rows.flags.writeable = False  # shared memory is read-only to a worker
    subject.loaded().run(subject.variant, CLASSES, {"signal": rows})
    assert np.array_equal(rows, before)


def check_a_proof_says_what_a_run_says(subject: Subject) -> None:
    runtime, rows = subject.loaded(), some_rows(3)
    proof = runtime.prove(subject.variant, CLASSES, {"signal": rows})
    np.testing.assert_array_equal(proof, runtime.run(subject.variant, CLASSES, {"signal": rows}))


def check_nothing_is_proved_that_was_not_loaded(subject: Subject) -> None:
    with pytest.raises(BackendError):
        subject.make().prove(subject.variant, CLASSES, {"signal": some_rows(1)})


def check_nothing_runs_that_was_not_loaded(subject: Subject) -> None:
    with pytest.raises(BackendError, match="not resident"):
        subject.make().run(subject.variant, CLASSES, {"signal": some_rows(1)})


def check_nothing_runs_after_unload(subject: Subject) -> None:
    runtime = subject.loaded()
    runtime.unload(subject.variant.weights)
    with pytest.raises(BackendError, match="not resident"):
        runtime.run(subject.variant, CLASSES, {"signal": some_rows(1)})
    runtime.load(subject.variant, CLASSES)
    assert len(runtime.run(subject.variant, CLASSES, {"signal": some_rows(1)})) == 1


def check_unloading_what_is_not_there_is_no_error(subject: Subject) -> None:
    subject.make().unload("never heard of")


def check_a_broken_model_leaves_the_others_alone(subject: Subject) -> None:
    runtime = subject.loaded()
    with pytest.raises(InvalidModel):
        runtime.load(subject.broken, CLASSES)
    assert len(runtime.run(subject.variant, CLASSES, {"signal": some_rows(2)})) == 2


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]
