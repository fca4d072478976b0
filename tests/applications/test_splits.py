"""Nobody and nothing stands on both sides of a line."""

from pathlib import Path

import numpy as np
import pytest

from peekserve.applications.digits.load import spoil
from peekserve.applications.prepare import NAMES, load_elsewhere, prepare, require
from peekserve.applications.splits import PARTS, Split, Splits
from peekserve.errors import DataUnavailable, InvalidData, UnknownApplication


@pytest.fixture(scope="module", params=NAMES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Splits]:
    out = tmp_path_factory.mktemp("splits")
    load_elsewhere(request.param, out)
    return request.param, Splits.read(out)


def test_no_group_is_in_two_parts(loaded: tuple[str, Splits]) -> None:
    _, splits = loaded
    groups = {part: set(splits.part(part).groups.tolist()) for part in PARTS}
    assert not groups["validation"] & groups["test"]
    assert not groups["train"] & (groups["validation"] | groups["test"])
    assert groups["reference"] <= groups["train"]


def test_no_row_is_in_two_parts(loaded: tuple[str, Splits]) -> None:
    _, splits = loaded
    rows = [
        {b"".join(values[i].tobytes() for values in part.inputs.values()) for i in range(len(part))}
        for part in (splits.reference, splits.validation, splits.test)
    ]
    assert not rows[0] & (rows[1] | rows[2])
    assert not rows[1] & rows[2]


def test_every_part_has_every_class(loaded: tuple[str, Splits]) -> None:
    _, splits = loaded
    classes = np.unique(splits.train.labels).tolist()
    assert classes == list(range(len(classes)))
    for part in PARTS:
        assert np.unique(splits.part(part).labels).tolist() == classes
        assert all(np.isfinite(values).all() for values in splits.part(part).inputs.values())


def test_loading_twice_gives_the_same_rows(loaded: tuple[str, Splits], repository: Path) -> None:
    name, splits = loaded
    for part in ("reference", "validation", "test"):
        again = Split.read(repository / name / f"{part}.npz")
        for column, values in splits.part(part).columns().items():
            np.testing.assert_array_equal(values, again.columns()[column])


def test_what_lies_beyond_a_row_s_length_is_zero(loaded: tuple[str, Splits]) -> None:
    _, splits = loaded
    for name, lengths in splits.test.lengths.items():
        beyond = np.arange(splits.test.inputs[name].shape[1]) >= lengths[:, None]
        assert not splits.test.inputs[name][beyond].any()


def test_spoiling_is_the_seed_s_doing_alone() -> None:
    images = np.full((5, 8, 8), 9, dtype=np.float32)
    first, second, other = (spoil(images, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    assert 0 <= first.min() <= first.max() <= 16


def test_columns_of_uneven_length_are_no_split() -> None:
    with pytest.raises(InvalidData, match="'x' has 3 rows, but there are 2 labels"):
        Split({"x": np.zeros((3, 1), np.float32)}, np.zeros(2, np.int64), np.zeros(2, np.int64))


def test_an_unknown_application_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(
        UnknownApplication, match="no demo application 'digit'; there are digits, watch, appliances"
    ):
        prepare(tmp_path, ["digits", "digit"])
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_the_extra_that_brings_it() -> None:
    with pytest.raises(
        DataUnavailable, match=r"come with no_such_package, not installed here: .*peekserve\[demo\]"
    ):
        require("watch", ["numpy", "no_such_package"])


def test_a_loader_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataUnavailable, match=r"could not be read .*No module named"):
        load_elsewhere("nothing", tmp_path)
