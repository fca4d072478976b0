"""Spoken words: nobody speaks in two parts, and what is shipped hears raw samples as the formulas say."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from peekserve.applications.card import PEEK, Measured, measure
from peekserve.applications.direct import answers, class_names, declaration
from peekserve.applications.keywords.load import (
    FILE,
    RATE,
    WORDS,
    Clips,
    background,
    expanded,
    hundredth,
    once_each,
    parted,
    read,
)
from peekserve.applications.prepare import HOME, models, prepare
from peekserve.applications.splits import PARTS, Split, Splits
from peekserve.errors import DataUnavailable, InvalidData
from peekserve.registry.datasets import dataset_file
from tests.applications.cards import milliseconds, stated

MIB = 2**20
SAID = declaration(HOME / "keywords" / "application.yaml")
FRONTS = {"lstm": (256, 200, 24), "mobilenet": (256, 128, 32)}  # window, hop, bands


@pytest.fixture(scope="module")
def clips() -> Clips:
    try:
        return read(dataset_file(FILE))
    except DataUnavailable as absent:
        pytest.skip(str(absent))


@pytest.fixture(scope="module")
def splits(clips: Clips) -> Splits:
    return parted(clips)


@pytest.fixture(scope="module")
def place(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("repository")
    prepare(directory, ["keywords"])
    return directory / "keywords"


@pytest.fixture(scope="module")
def lines(place: Path) -> dict[str, Measured]:
    return {line.name: line for line in measure(place)}


def speaking(n: int, seed: int) -> NDArray[np.float32]:
    """Clips that rise in pitch and fade, with a little noise: [n, 8000]."""
    rng = np.random.default_rng(seed)
    t = np.arange(RATE) / RATE
    pitch = rng.uniform(100, 1500, (n, 1))
    tones = np.sin(2 * np.pi * (pitch * t + 400 * t**2)) * np.exp(-(((t - 0.5) / 0.2) ** 2))
    return (0.3 * tones + rng.normal(0, 0.01, (n, RATE))).astype(np.float32)


def recorded(speakers: list[str]) -> Clips:
    """One clip of each word by each speaker, no two alike, and one of noise."""
    names = [name for name in speakers for _ in WORDS] + ["noise"]
    words = [*WORDS * len(speakers), "_silence_"]
    sounds = np.random.default_rng(0).integers(0, 256, (len(names), RATE), dtype=np.uint8)
    return Clips(sounds, np.array(words), np.array(names), np.zeros(len(names), np.uint8))


def written_out(clip: NDArray[np.float32], window: int, hop: int, bands: int) -> NDArray[np.float64]:
    """Log-mel energies by the book, in float64: frames, window, numpy's transform, triangles, logarithm."""
    hann = 0.5 * (1 - np.cos(2 * np.pi * np.arange(window) / window))
    starts = range(0, len(clip) - window + 1, hop)
    frames = np.array([clip[start : start + window] * hann / hann.sum() for start in starts], np.float64)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    hertz = np.fft.rfftfreq(window, 1 / RATE)
    edges = np.linspace(2595 * np.log10(1 + 60 / 700), 2595 * np.log10(1 + 3800 / 700), bands + 2)
    mel = 2595 * np.log10(1 + hertz / 700)
    weights = [np.interp(mel, edges[b : b + 3], [0, 1, 0], left=0, right=0) for b in range(bands)]
    return np.asarray(np.log(power @ np.array(weights).T + 1e-6).T)


def session(model: onnx.ModelProto | Path) -> ort.InferenceSession:
    return ort.InferenceSession(
        str(model) if isinstance(model, Path) else model.SerializeToString(),
        providers=["CPUExecutionProvider"],
    )


def test_no_speaker_is_in_two_parts(splits: Splits) -> None:
    speakers = {part: set(splits.part(part).groups.tolist()) for part in PARTS}
    for i, one in enumerate(PARTS):
        for other in PARTS[i + 1 :]:
            assert not speakers[one] & speakers[other], f"{one} and {other}"


def test_the_parts_are_within_those_of_the_file(clips: Clips, splits: Splits) -> None:
    filed = {
        int(s, 16): int(part) for s, part in zip(clips.speakers, clips.split, strict=True) if s != "noise"
    }
    for part, number in (("train", 0), ("reference", 0), ("validation", 1), ("test", 2)):
        assert {filed[speaker] for speaker in splits.part(part).groups.tolist()} == {number}


def test_every_part_has_every_word_as_one_second_of_samples(splits: Splits) -> None:
    for part in PARTS:
        rows = splits.part(part)
        assert np.bincount(rows.labels, minlength=6).min() >= 25, part
        assert rows.inputs["clip"].shape == (len(rows), RATE)
        assert rows.inputs["clip"].dtype == np.float32
        assert np.abs(rows.inputs["clip"]).max() <= 1.0
        assert len({clip.tobytes() for clip in rows.inputs["clip"]}) == len(rows)


def test_a_speaker_goes_where_the_hash_of_the_name_says() -> None:
    speakers = [f"{i:08x}" for i in range(60)]
    splits = parted(recorded(speakers))
    assert sum(len(splits.part(part)) for part in PARTS) == 60 * 6
    for part, low, high in (
        ("reference", 0, 10),
        ("train", 10, 60),
        ("validation", 60, 75),
        ("test", 75, 100),
    ):
        there = {f"{speaker:08x}" for speaker in splits.part(part).groups.tolist()}
        at = {s for s in speakers if low <= int(hashlib.sha1(s.encode()).hexdigest(), 16) % 100 < high}
        assert there == at
        assert all(low <= hundredth(s) < high for s in there)


def test_a_copy_of_a_clip_counts_once() -> None:
    clips = recorded(["0000000a", "0000000b"])
    twice = clips.rows(np.ones(13, bool))
    twice.companded[7] = twice.companded[1]
    kept = once_each(twice)
    assert len(kept.words) == 12
    np.testing.assert_array_equal(kept.companded, np.delete(twice.companded, 7, axis=0))


def test_only_training_noise_is_background() -> None:
    clips = recorded(["0000000a"])
    np.testing.assert_array_equal(background(clips), expanded(clips.companded[-1:]))
    later = Clips(clips.companded, clips.words, clips.speakers, np.ones(7, np.uint8))
    assert len(background(later)) == 0


def test_mu_law_is_undone() -> None:
    samples = expanded(np.arange(256, dtype=np.uint8))
    assert samples[0] == -1.0
    assert samples[255] == 1.0
    np.testing.assert_allclose(samples, -samples[::-1], atol=1e-6)
    back = np.sign(samples) * np.log1p(255 * np.abs(samples.astype(np.float64))) / np.log(256)
    np.testing.assert_array_equal(np.rint((back + 1) / 2 * 255), np.arange(256))


def test_another_kind_of_file_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", allow_pickle=False, label=np.zeros(1), speaker=np.zeros(1))
    with pytest.raises(
        InvalidData, match=r"clips.npz has no audio_mulaw, labels, split; it has label, speaker"
    ):
        read(tmp_path / "clips.npz")


def test_the_models_together_stay_small() -> None:
    shipped = models("keywords")
    assert [model.stem for model in shipped] == sorted(SAID["variants"]) == sorted(FRONTS)
    assert sum(model.stat().st_size for model in shipped) < 2 * MIB


@pytest.mark.parametrize("variant", FRONTS)
def test_a_shipped_model_takes_raw_clips_and_gives_a_score_for_every_word(variant: str) -> None:
    assert class_names(SAID) == list(WORDS)
    assert SAID["inputs"] == {"clip": {"datatype": "FP32", "shape": [RATE]}}
    spec: dict[str, Any] = SAID["variants"][variant]
    model = session(HOME / "keywords" / "models" / f"{variant}.onnx")
    assert [tensor.shape for tensor in model.get_inputs()] == [["n", RATE]]
    silence, loud = np.zeros((1, RATE), np.float32), np.ones((1, RATE), np.float32)
    for clip in (speaking(5, 1), silence, loud, 1e3 * speaking(1, 2)):
        (scores,) = model.run([spec["output"]["name"]], {spec["inputs"]["clip"]["name"]: clip})
        assert scores.shape == (len(clip), len(WORDS))
        assert np.isfinite(scores).all()
        if spec["output"]["form"] == "probabilities":
            np.testing.assert_allclose(scores.sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize("variant", FRONTS)
def test_the_log_mel_energies_in_the_graph_are_those_of_the_formulas(variant: str) -> None:
    model = onnx.load(HOME / "keywords" / "models" / f"{variant}.onnx")
    # A variant that hears a clip at several moments hears it first as it is.
    logarithm = next(node.output[0] for node in model.graph.node if node.op_type == "Log")
    model.graph.output.append(onnx.helper.make_tensor_value_info(logarithm, onnx.TensorProto.FLOAT, None))
    clips = speaking(3, 7)
    (seen,) = session(model).run([logarithm], {model.graph.input[0].name: clips})
    window, hop, bands = FRONTS[variant]
    assert seen.shape == (len(clips), bands, 1 + (RATE - window) // hop)
    for clip, energies in zip(clips, seen, strict=True):
        np.testing.assert_allclose(energies, written_out(clip, window, hop, bands), atol=2e-3)


def test_an_answer_does_not_depend_on_its_company(place: Path) -> None:
    rows = Split.read(place / "test.npz").rows(np.arange(24))
    for variant in FRONTS:
        together, alone = (answers(SAID, place, variant, rows, batch=size) for size in (24, 1))
        np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_card_states_what_is_measured(lines: dict[str, Measured]) -> None:
    assert list(lines) == [PEEK, *FRONTS]
    for name, line in lines.items():
        low, high = (
            float(edge) for edge in stated("keywords", name)[3].split("[")[1].strip().rstrip("]").split(",")
        )
        assert low <= line.overall("test").value <= high, (
            f"{name}: the card says {stated('keywords', name)[3]}"
        )


def test_the_choice_is_a_real_one(place: Path, lines: dict[str, Measured]) -> None:
    peek, cheap, dear = (line.overall("validation").value for line in lines.values())
    assert peek + 0.05 <= cheap
    assert cheap + 0.03 <= dear
    cheap_ms, dear_ms = (milliseconds("keywords", variant) for variant in FRONTS)
    assert dear_ms >= 20 * cheap_ms
    assert dear_ms >= 1.0
