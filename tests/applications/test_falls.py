"""Falls: nobody is on two sides, windows do not follow the phone, and every network runs before it has learnt."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from peekserve.applications.card import PEEK, measure
from peekserve.applications.direct import declaration, feeds, session
from peekserve.applications.falls.load import (
    FILE,
    IMPACT_AFTER_S,
    INSIDE_S,
    PHONE_HZ,
    REFERENCE_PEOPLE,
    SECONDS,
    TAG_HZ,
    TEST_PEOPLE,
    VALIDATION_PEOPLE,
    Trials,
    impacts_s,
    parted,
    spoiled,
    trials,
    windows,
)
from peekserve.applications.prepare import HOME, prepare
from peekserve.applications.splits import PARTS, Split, Splits
from peekserve.errors import DataUnavailable, InvalidData
from peekserve.registry.datasets import find, trained_models
from tests.applications.cards import milliseconds

SAID = declaration(HOME / "falls" / "application.yaml")
needs_data = pytest.mark.skipif(find(FILE) is None, reason=f"there is no {FILE} here")


def one_trial(impact_s: float, fell: bool, worn: tuple[bool, ...] = (True, True, True, True)) -> Trials:
    """Fifteen quiet seconds of person 7, with one blow on every tag that was worn. The phone's is at another time."""
    rng = np.random.default_rng(1)
    tag = rng.integers(-20, 20, (1, 4, 6, 300)).astype(np.int16)
    tag[0, :, 2, round(impact_s * TAG_HZ)] = 8_000
    tag[0, ~np.array(worn)] = 0
    phone = rng.integers(-20, 20, (1, 3, 750)).astype(np.int16)
    phone[0, 0, 500] = 10_000
    return {
        "subject": np.array([7], np.uint8),
        "phone_acc": phone,
        "tag": tag,
        "tag_present": np.array([worn]),
        "is_fall": np.array([fell], np.uint8),
    }


def rows(n: int = 6, seed: int = 1) -> Split:
    """Rows that look like a person's, without the recordings."""
    rng = np.random.default_rng(seed)
    phone = rng.normal(0, 1, (n, SECONDS * PHONE_HZ, 3)).astype(np.float32)
    tags = rng.normal(0, 1, (n, SECONDS * TAG_HZ, 4, 6)).astype(np.float32)
    tags[0, :, 1:] = 0.0
    return Split({"phone": phone, "tags": tags}, np.arange(n) % 2, np.full(n, 7))


def test_a_fall_is_every_window_of_the_grid_with_the_impact_well_inside():
    seen = windows(one_trial(impact_s=4.0, fell=True), (7,), fall_step_s=0.5, daily_step_s=3.0)
    blows = np.square(seen.inputs["tags"][:, :, 0, 2]).argmax(1) / TAG_HZ
    np.testing.assert_allclose(blows, [2.5, 2.0, 1.5, 1.0, 0.5])
    assert (seen.labels == 1).all()
    assert (blows >= INSIDE_S).all()
    assert (blows <= SECONDS - INSIDE_S).all()


def test_where_a_window_lies_does_not_depend_on_the_phone():
    here, elsewhere = one_trial(4.0, fell=True), one_trial(4.0, fell=True)
    elsewhere["phone_acc"] = np.roll(elsewhere["phone_acc"], 300, axis=2)
    first, second = (windows(found, (7,), 0.5, 3.0) for found in (here, elsewhere))
    np.testing.assert_array_equal(first.inputs["tags"], second.inputs["tags"])
    assert first.inputs["phone"].shape == second.inputs["phone"].shape


def test_daily_life_is_cut_from_end_to_end_and_tags_that_were_not_worn_are_zeros():
    seen = windows(one_trial(4.0, fell=False, worn=(True, False, True, False)), (7,), 0.5, 3.0)
    assert seen.inputs["phone"].shape == (5, SECONDS * PHONE_HZ, 3)
    assert seen.labels.tolist() == [0] * 5
    assert not seen.inputs["tags"][:, :, [1, 3]].any()
    assert seen.inputs["tags"][:, :, [0, 2]].any()


def test_a_blow_before_or_after_the_fall_is_not_the_fall():
    found = one_trial(4.0, fell=True)
    found["tag"][0, :, 2, round(12.0 * TAG_HZ)] = 9_000
    tag = found["tag"].astype(np.float32)
    assert impacts_s(tag, np.array([[True, True, True, True]])) == pytest.approx([4.0])
    assert impacts_s(tag, np.array([[True, True, True, True]]))[0] >= IMPACT_AFTER_S


def test_spoiling_leaves_a_tag_to_everyone_and_turns_the_phone_without_stretching_it():
    clean = rows(400)
    worse, again = (spoiled(clean, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(worse.inputs["phone"], again.inputs["phone"])
    worn = worse.inputs["tags"].any((1, 3))
    assert worn.any(1).all()
    assert worn[0].tolist() == [True, False, False, False]  # what was not worn is not invented
    assert 0.5 < worn[1:].mean() < 0.8
    still = Split(
        {**clean.inputs, "phone": np.full_like(clean.inputs["phone"], 100.0)}, clean.labels, clean.groups
    )
    turned = spoiled(still, np.random.default_rng(3)).inputs["phone"]
    np.testing.assert_allclose(np.linalg.norm(turned, axis=2), 100 * np.sqrt(3), atol=2.0)
    directions = turned.mean(1) / np.linalg.norm(turned.mean(1), axis=1, keepdims=True)
    assert np.abs(directions.mean(0)).max() < 0.15  # no way round is more likely than another


def test_another_file_is_named_with_what_it_lacks(tmp_path: Path):
    np.savez(tmp_path / "trials.npz", subject=np.zeros(1))
    with pytest.raises(InvalidData, match="has no phone_acc, tag, tag_present, is_fall; it has subject"):
        trials(tmp_path / "trials.npz")


@pytest.fixture(scope="module")
def splits() -> Splits:
    found = find(FILE)
    assert found is not None
    return parted(trials(found))


@needs_data
def test_no_person_is_in_two_parts_not_even_in_the_reference(splits: Splits):
    people = [set(splits.part(part).groups.tolist()) for part in PARTS]
    for one, other in combinations(people, 2):
        assert not one & other
    assert set.union(*people) == {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 16, 17, 18, 19}
    assert people[1] <= set(REFERENCE_PEOPLE)


@needs_data
def test_every_part_has_falls_and_daily_life_and_is_the_same_each_time(splits: Splits):
    found = find(FILE)
    assert found is not None
    again = parted(trials(found))
    for name in PARTS:
        part = splits.part(name)
        assert set(part.labels.tolist()) == {0, 1}
        assert (
            part.inputs["tags"].any((1, 3)).any(1).all()
        )  # somebody without a single tag could not be judged
        for column, values in part.columns().items():
            assert np.isfinite(values).all()
            np.testing.assert_array_equal(values, again.part(name).columns()[column])


@needs_data
def test_no_trial_is_in_two_parts():
    found = find(FILE)
    assert found is not None
    recorded = trials(found)
    numbered = {**recorded, "phone_acc": recorded["phone_acc"].copy()}
    numbered["phone_acc"][:, 0, :] = np.arange(len(recorded["subject"]))[
        :, None
    ]  # the trial's number, as its signal
    cut = [windows(numbered, tuple(set(part)), 0.5, 1.5) for part in _people()]
    seen = [set(np.round(part.inputs["phone"][:, 0, 0] * 2000).astype(int).tolist()) for part in cut]
    for one, other in combinations(seen, 2):
        assert not one & other
    assert len(set.union(*seen)) == len(recorded["subject"])


def _people() -> list[tuple[int, ...]]:
    held_out = REFERENCE_PEOPLE + VALIDATION_PEOPLE + TEST_PEOPLE
    return [
        REFERENCE_PEOPLE,
        VALIDATION_PEOPLE,
        TEST_PEOPLE,
        tuple(one for one in range(1, 20) if one not in held_out),
    ]


# The networks. They need torch, which `make test` does not install.


def tensors(variant: str, some: Split) -> dict[str, NDArray[np.float32]]:
    return feeds(SAID, variant, some, batch=len(some))[0][1]


@pytest.fixture(scope="module")
def train() -> Any:
    pytest.importorskip("torch", reason="networks are built with torch (extra: train)")
    return pytest.importorskip("peekserve.applications.falls.train")


@pytest.fixture(scope="module")
def untrained(train: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("untrained")
    train.write(train.untrained(), out, rows())
    return out


def test_every_declared_variant_runs_before_it_has_learnt(untrained: Path):
    assert sorted(path.stem for path in untrained.glob("*.onnx")) == sorted(SAID["variants"])
    for variant, spec in SAID["variants"].items():
        model = session(untrained / f"{variant}.onnx")
        scores = model.run([spec["output"]["name"]], tensors(variant, rows(6)))[0]
        assert scores.shape == (6, 2)
        assert np.isfinite(scores).all()
        alone = model.run([spec["output"]["name"]], tensors(variant, rows(6).rows(np.array([0]))))[0]
        np.testing.assert_allclose(alone[0], scores[0], atol=1e-4)
        if spec["output"]["form"] == "probabilities":
            np.testing.assert_allclose(scores.sum(1), 1.0, atol=1e-5)


def test_a_row_without_any_tag_still_has_finite_scores(untrained: Path):
    bare = rows(2)
    bare.inputs["tags"][:] = 0.0
    for variant, spec in SAID["variants"].items():
        scores = session(untrained / f"{variant}.onnx").run([spec["output"]["name"]], tensors(variant, bare))[
            0
        ]
        assert np.isfinite(scores).all()


def plain_shares(
    x: NDArray[np.float32], heard: NDArray[np.bool_], biases: NDArray[np.float32], dilations: tuple[int, ...]
) -> NDArray[np.float64]:
    """What the transform is said to do, sample by sample: x [3, t], heard [dilation, 84, channel], shares [-1]."""
    channels = np.vstack([x, np.sqrt((x * x).sum(0))])
    t, shares = x.shape[1], []
    for d, dilation in enumerate(dilations):
        for k, chosen in enumerate(combinations(range(9), 3)):
            one = channels[heard[d, k]].sum(0)
            padded = np.pad(one, 4 * dilation)
            weights = np.where(np.isin(np.arange(9), chosen), 2, -1)
            given = sum(w * padded[j * dilation : j * dilation + t] for j, w in enumerate(weights))
            shares.append((given > biases[d, k]).mean())
    return np.array(shares)


def test_the_rocket_as_onnx_is_the_plain_one(train: Any, tmp_path: Path):
    """Every sample lies on one axis and is a whole number, so that no sum is rounded and no comparison is a matter of
    the last bit."""
    rng = np.random.default_rng(5)
    x = np.zeros((3, 3, 150), np.float32)
    axes = rng.integers(0, 3, (3, 150))
    np.put_along_axis(x, axes[:, None], rng.integers(-8, 9, (3, 1, 150)).astype(np.float32), axis=1)
    rocket = train.Rocket(np.random.default_rng(2))
    biases = rng.integers(-10, 10, tuple(rocket.biases.shape)).astype(np.float32)
    rocket.biases.copy_(train.torch.from_numpy(biases))
    train.export(rocket, tmp_path / "model.onnx", [x], ["x"], "logits")
    made = session(tmp_path / "model.onnx").run(None, {"x": x})[0]
    heard = rocket.kernels.numpy().any(3)
    assert heard.any(2).all()
    weights, bias = (part.detach().numpy() for part in (rocket.head.weight, rocket.head.bias))
    for row, given in zip(x, made, strict=True):
        shares = plain_shares(row, heard, biases, train.DILATIONS)
        assert 0 < shares.mean() < 1
        np.testing.assert_allclose(given, weights @ shares + bias, atol=1e-5)


# The trained models, where somebody has trained them.


def have_been_trained() -> bool:
    try:
        return find(FILE) is not None and bool(trained_models("falls"))
    except DataUnavailable:
        return False


needs_models = pytest.mark.skipif(
    not have_been_trained(), reason="the models of 'falls' have not been trained here"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("repository")
    prepare(repository, ["falls"])
    return repository / "falls"


@needs_models
def test_there_is_something_to_choose(place: Path):
    """The peek is clearly below the best, and every variant on the front of accuracy and cost or best at a class."""
    lines = {line.name: line for line in measure(place, ("validation",))}
    right = {name: line.overall("validation").value for name, line in lines.items()}
    recalls = {name: [line.of_class("validation", c).value for c in (0, 1)] for name, line in lines.items()}
    variants = list(SAID["variants"])  # from the cheapest to the dearest
    assert right[PEEK] <= max(right[name] for name in variants) - 0.05
    for i, name in enumerate(variants):
        on_the_front = all(right[name] > right[cheaper] for cheaper in variants[:i])
        others = np.max([recalls[other] for other in variants if other != name], axis=0)
        assert on_the_front or (np.array(recalls[name]) > others).any(), name


def test_the_dearest_costs_twenty_times_the_cheapest():
    cheapest, *_, dearest = SAID["variants"]
    assert milliseconds("falls", dearest) >= max(1.0, 20 * milliseconds("falls", cheapest))
