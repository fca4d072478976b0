"""Heartbeats: no stretch of a recording is in two parts, and the shipped models answer without any data."""

from pathlib import Path

import numpy as np
import pytest

from peekserve.applications.card import PEEK, measure
from peekserve.applications.direct import answers, class_names, declaration
from peekserve.applications.ecg.load import FILE, REFERENCE, SYMBOLS, beats, load
from peekserve.applications.prepare import ALL, FILES, HOME, NAMES, models, prepare
from peekserve.applications.splits import PARTS, Split, Splits
from peekserve.domain.application import OnMiss
from peekserve.errors import DataUnavailable, InvalidData
from peekserve.registry.datasets import DATASETS, VARIABLE, dataset_file, trained_models
from peekserve.registry.repository import read_repository

MIB = 2**20
SAID = declaration(HOME / "ecg" / "application.yaml")
HALF_A_SECOND = 90


def made_up_beats(n: int, seed: int) -> Split:
    """A spike of a millivolt on noise, every class named in turn."""
    rng = np.random.default_rng(seed)
    t = np.arange(180)
    rows = np.exp(-(((t - 72) / 3) ** 2)) * rng.uniform(0.5, 1.5, (n, 1)) + rng.normal(0, 0.05, (n, 180))
    labels = np.arange(n) % len(SYMBOLS)
    return Split({"beat": rows.astype(np.float32)}, labels, np.arange(n))


@pytest.fixture(scope="module")
def splits() -> Splits:
    try:
        return load()
    except DataUnavailable as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="module")
def prepared(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ecg")
    prepare(directory, ["ecg"])
    return directory / "ecg"


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The application without data of the real kind: declaration, shipped models, made-up rows."""
    place = tmp_path / "ecg"
    for variant in SAID["variants"]:
        (place / variant).mkdir(parents=True)
        shipped = HOME / "ecg" / "models" / f"{variant}.onnx"
        (place / variant / "model.onnx").write_bytes(shipped.read_bytes())
    (place / "application.yaml").write_bytes((HOME / "ecg" / "application.yaml").read_bytes())
    for seed, part in enumerate(("reference", "validation", "test")):
        made_up_beats(35, seed).save(place / f"{part}.npz")
    return place


def test_no_stretch_of_a_record_is_in_two_parts(splits: Splits) -> None:
    groups = {part: set(splits.part(part).groups.tolist()) for part in PARTS}
    assert not groups["validation"] & groups["test"]
    assert not groups["train"] & (groups["validation"] | groups["test"])
    assert groups["reference"] <= groups["train"]
    # What is shared, as the card says: patients, at other times.
    assert {g // 10 for g in groups["test"]} & {g // 10 for g in groups["train"]}


def test_no_two_parts_have_a_sample_of_a_record_in_common(splits: Splits) -> None:
    found = beats(dataset_file(FILE))
    with np.load(dataset_file(FILE), allow_pickle=False) as file:
        sample = file["sample"].astype(np.int64)
    part = found["split_time"]
    for record in np.unique(found["record"]):
        mine = found["record"] == record
        train, validation, test = (sample[mine & (part == p)] for p in (0, 1, 2))
        assert train.max() + 2 * HALF_A_SECOND * 2 < validation.min()
        assert validation.max() + 2 * HALF_A_SECOND * 2 < test.min()


def test_where_parts_share_no_patient_none_is_shared(splits: Splits) -> None:
    apart = load("split_interpatient")
    patients = {part: {g // 10 for g in apart.part(part).groups.tolist()} for part in PARTS}
    assert not patients["train"] & patients["validation"]
    assert not (patients["train"] | patients["validation"]) & patients["test"]
    assert len(patients["test"]) == 22


def test_parts_have_seven_classes_of_one_second_in_millivolts(splits: Splits) -> None:
    for part in PARTS:
        split = splits.part(part)
        assert split.inputs["beat"].shape == (len(split), 180)
        assert np.unique(split.labels).tolist() == list(range(len(class_names(SAID))))
        assert 0.1 < abs(split.inputs["beat"][:, 72]).mean() < 5
    assert len(splits.reference) == REFERENCE
    assert np.bincount(splits.train.labels).tolist() == [13437, 1496, 1745, 1002, 3788, 1326, 571]


def test_the_peek_is_clearly_below_the_best_variant_and_the_card_is_true(prepared: Path) -> None:
    lines = {line.name: line for line in measure(prepared, ("validation",))}
    peek, cnn, resnet34 = (lines[name].overall("validation").value for name in (PEEK, "cnn", "resnet34"))
    assert peek <= resnet34 - 0.05
    assert cnn < resnet34
    card = (HOME / "ecg" / "README.md").read_text(encoding="utf-8").splitlines()
    for name, line in lines.items():
        row = next(text for text in card if text.startswith(f"| {name} | ")).split("|")
        low, high = (float(edge) for edge in row[2].split("[")[1].rstrip("] ").split(","))
        assert low <= line.overall("validation").value <= high, name


def test_every_variant_is_shipped_and_all_are_small() -> None:
    assert [model.stem for model in models("ecg")] == sorted(SAID["variants"])
    assert sum(model.stat().st_size for model in models("ecg")) < 2 * MIB


def test_shipped_models_answer_the_same_in_any_company(bare: Path) -> None:
    rows = Split.read(bare / "test.npz")
    for variant in SAID["variants"]:
        together = answers(SAID, bare, variant, rows)
        assert together.shape == (35, 7)
        assert np.isfinite(together).all()
        np.testing.assert_allclose(together.sum(1), 1, atol=1e-5)
        np.testing.assert_allclose(together, answers(SAID, bare, variant, rows, batch=1), atol=1e-4)


def test_the_application_is_read(bare: Path) -> None:
    registered = read_repository(bare.parent).sound().application("ecg")
    assert [str(c) for c in registered.classes] == class_names(SAID)
    assert [variant.name for variant in registered.variants] == ["cnn", "resnet34"]
    assert registered.queries[0][1].deadline_s == 0.15
    assert registered.on_miss is OnMiss.DEGRADE


def test_without_data_prepare_says_what_is_missing_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "empty"))
    for name in ("ecg", "keywords", "falls"):
        with pytest.raises(
            DataUnavailable,
            match=rf"no {FILES[name]}/\w+\.npz in .*empty; `peekserve data fetch {FILES[name]}` gets it",
        ):
            prepare(tmp_path / "repository", [name])
    assert not (tmp_path / "repository").exists()


def test_models_trained_beside_their_data_are_asked_for_by_the_command_that_trains_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "umafall").mkdir()
    (tmp_path / "umafall" / "trials.npz").touch()
    out = tmp_path / "models" / "falls"
    with pytest.raises(
        DataUnavailable, match=rf"`python -m peekserve\.applications\.falls\.train --out {out}`"
    ):
        prepare(tmp_path / "repository", ["falls"])
    out.mkdir(parents=True)
    (out / "fusion.onnx").touch()
    assert trained_models("falls") == [out / "fusion.onnx"] == models("falls")


def test_a_file_of_another_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "mitbih_beats").mkdir()
    np.savez(tmp_path / "mitbih_beats" / "beats.npz", x=np.zeros(3))
    with pytest.raises(InvalidData, match=r"beats\.npz has no symbol, symbols, .*; it has x"):
        load()
    (tmp_path / "mitbih_beats" / "beats.npz").write_bytes(b"PK cut off")
    with pytest.raises(
        DataUnavailable, match=r"'ecg' could not be read .* `peekserve data fetch mitbih_beats"
    ):
        prepare(tmp_path / "repository", ["ecg"])


def test_the_demo_keeps_its_three_and_six_can_be_prepared() -> None:
    assert NAMES == ("digits", "watch", "appliances")
    assert [name for name in ALL if name not in NAMES] == ["ecg", "keywords", "falls"]
    assert {DATASETS[file].application for file in FILES.values()} == set(FILES)
