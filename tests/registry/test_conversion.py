"""Published archives become the arrays that the loaders read."""

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvalidData
from peekserve.registry.conversion import mitbih, speech, umafall, wfdb
from tests.registry.archives import (
    CLIPS,
    LENGTH,
    a_record,
    a_trial,
    a_wav,
    in_format_212,
    mitbih_zip,
    speech_tar,
    tone,
    umafall_zip,
)

PAIRS = st.lists(st.tuples(st.integers(-2048, 2047), st.integers(-2048, 2047)), min_size=1, max_size=40)


@given(PAIRS)
def test_format_212_is_read_as_it_was_written(pairs: list[tuple[int, int]]) -> None:
    np.testing.assert_array_equal(wfdb.samples_212(in_format_212(np.array(pairs)), 2, "x.dat"), pairs)


def test_known_bytes_of_format_212() -> None:
    # 0x3E3 = 995 and 0x3F3 = 1011: how record 100 begins.
    assert wfdb.samples_212(bytes([0xE3, 0x33, 0xF3]), 2, "100.dat").tolist() == [[995, 1011]]


def test_half_a_triple_is_no_record() -> None:
    with pytest.raises(InvalidData, match=r"100\.dat has 4 bytes"):
        wfdb.samples_212(b"1234", 2, "100.dat")


def test_beats_are_read_past_long_gaps_and_remarks() -> None:
    files, marks = a_record(100)
    at, symbols = wfdb.beats(files["atr"], "100.atr")
    assert list(zip(at.tolist(), symbols, strict=True)) == [mark for mark in marks if mark[1] != "+"]


def test_annotations_without_an_end_are_refused() -> None:
    files, marks = a_record(100)
    with pytest.raises(InvalidData, match=rf"100\.atr ends in the middle: .* {len(marks) - 1} beats"):
        wfdb.beats(files["atr"][:-2], "100.atr")


def test_a_header_says_gain_zero_and_name() -> None:
    about = wfdb.header(
        "100 2 360 650000 0:0:0 0/0/0\n"
        "100.dat 212 200 11 1024 995 -22131 0 MLII\n100.dat 212 200(1024)/mV 11 1024 1011 20052 0 V5\n# 69 M\n",
        "100.hea",
    )
    assert (about.rate, about.length) == (360.0, 650000)
    assert about.signals[0] == wfdb.Signal("100.dat", 212, 200.0, 1024, -22131, "MLII")
    assert about.signals[1].name == "V5"


def test_a_header_that_is_none_is_named() -> None:
    with pytest.raises(InvalidData, match=r"1\.hea is no header of a record: 2 signals are announced and 0"):
        wfdb.header("1 2 360 100", "1.hea")


def test_samples_that_do_not_add_up_are_refused() -> None:
    files, _ = a_record(100)
    about = wfdb.header(files["hea"].decode(), "100.hea")
    values = wfdb.samples_212(files["dat"], 2, "100.dat")
    assert wfdb.verified(values, about, "100.dat") is values
    values[7, 0] += 1
    with pytest.raises(InvalidData, match="the samples of MLII add up to"):
        wfdb.verified(values, about, "100.dat")
    with pytest.raises(InvalidData, match=rf"has 5 samples of each signal; its header says {LENGTH}"):
        wfdb.verified(values[:5], about, "100.dat")


def test_beats_of_two_records_with_their_windows(tmp_path: Path) -> None:
    sums = mitbih_zip(tmp_path / "a.zip")
    found = mitbih.convert(tmp_path / "a.zip", sums)
    _, marks = a_record(100)
    # The first beat, 40 samples in, has no whole window.
    beats = [mark for mark in marks if mark[1] != "+"][1:]
    first = found["record"] == 100
    assert found["sample"][first].tolist() == [at for at, _ in beats]
    assert [mitbih.SYMBOLS[i] for i in found["symbol"][first]] == [symbol for _, symbol in beats]
    assert found["x"].shape == (2 * len(beats), 180)
    assert found["x"].dtype == np.int16
    peaks = found["x"][:, 72]  # a millivolt is 200
    np.testing.assert_allclose(peaks, 200, atol=20)
    assert abs(found["x"][:, :60]).max() < 20
    assert found["rr_ms"][first][0].tolist() == [460 * 1000 // 360, 500 * 1000 // 360]
    assert set(found["split_interpatient"][first]) == {1}
    assert set(found["split_interpatient"][~first]) == {0}


def test_parts_by_time_leave_two_seconds_around_each_cut() -> None:
    places = np.array([0, 21_600 - 721, 21_600, 21_600 + 720, 27_000 - 721, 27_000, 27_000 + 720, 35_999])
    assert mitbih.by_time(places, 36_000).tolist() == [0, 0, 3, 1, 1, 3, 2, 2]


def test_at_most_so_many_beats_of_a_symbol_and_the_same_ones_each_time() -> None:
    at = np.arange(200, 400_000, 250)
    chosen = [list(mitbih._chosen(100, at, ["N"] * len(at), 250_000)) for _ in range(2)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == mitbih.AT_MOST
    assert chosen[0] == sorted(set(chosen[0]))


def test_a_changed_or_absent_file_of_the_database_is_named(tmp_path: Path) -> None:
    sums = mitbih_zip(tmp_path / "a.zip")
    with pytest.raises(InvalidData, match=r"101\.dat has the sha256 \w{64}; it should be beef"):
        mitbih.convert(tmp_path / "a.zip", sums | {"101.dat": "beef"})
    with pytest.raises(InvalidData, match=r"the archive has no 102\.hea"):
        mitbih.convert(tmp_path / "a.zip", sums | {"102.hea": "beef"})
    (tmp_path / "b.zip").write_bytes(b"no zip")
    with pytest.raises(InvalidData, match="no whole zip archive"):
        mitbih.convert(tmp_path / "b.zip", sums)


def test_the_official_sums_are_of_48_records_of_three_files() -> None:
    sums = mitbih.official_sums()
    assert len(sums) == 144
    assert len({name.split(".")[0] for name in sums}) == 48
    assert all(len(value) == 64 for value in sums.values())


def test_halving_the_rate_keeps_what_is_slow_and_drops_what_is_fast() -> None:
    t = np.arange(3600) / 360.0
    slow, fast = np.sin(2 * np.pi * 10 * t), np.sin(2 * np.pi * 150 * t)
    np.testing.assert_allclose(mitbih.decimated(slow)[50:-50], slow[::2][50:-50], atol=0.01)
    assert abs(mitbih.decimated(fast)[50:-50]).max() < 0.01


def test_clips_come_with_labels_speakers_and_parts(tmp_path: Path) -> None:
    speech_tar(tmp_path / "a.tar.gz")
    found = speech.convert(tmp_path / "a.tar.gz")
    assert sorted(found["filename"].tolist()) == sorted(CLIPS)
    assert found["labels"][found["label"]].tolist() == ["yes", "no", "_unknown_", "_silence_"]
    assert found["speaker"].tolist() == ["022cd682", "0bac8a71", "0c540988", "noise"]
    assert found["split"].tolist() == [0, 2, 0, 0]  # as in the copy that the cards were measured on
    audio = found["audio_mulaw"]
    assert audio.shape == (4, 8000)
    assert audio.dtype == np.uint8
    y = audio.astype(np.float64) / 255 * 2 - 1
    heard = np.sign(y) * (256.0 ** abs(y) - 1) / 255
    np.testing.assert_allclose(heard[0][50:-50], (tone(500) / 32768)[::2][50:-50], atol=0.03)
    assert abs(heard[1][6000:]).max() < 0.001, "a short clip ends in silence"
    assert abs(heard[2][50:-50]).max() < 0.01, "6 kHz does not fit in 8,000 samples a second"


def test_a_clip_at_another_rate_is_refused() -> None:
    with pytest.raises(InvalidData, match=r"x\.wav has \(channels, bytes, rate\) \(1, 2, 8000\)"):
        speech.clip(a_wav(np.zeros(10), rate=8000), "x.wav")
    with pytest.raises(InvalidData, match=r"x\.wav is no wav file"):
        speech.clip(b"RIFFzzzz", "x.wav")


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    speech_tar(path, {"maybe/022cd682_nohash_0.wav": np.zeros(4)})
    with pytest.raises(InvalidData, match="no wav files in folders named yes, no"):
        speech.convert(path)
    speech_tar(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidData, match=r"no whole tar\.gz archive"):
        speech.convert(path)
    path.write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(InvalidData):
        speech.convert(path)
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("yes/022cd682_nohash_0.wav", a_wav(tone(500)))
    with pytest.raises(InvalidData, match=r"no whole tar\.gz archive"):
        speech.convert(path)


def test_trials_come_with_people_activities_and_what_was_worn(tmp_path: Path) -> None:
    trials = {
        "03_Fall_backwardFall_1": a_trial((0, 1, 3)),
        "01_ADL_LyingDown_OnABed_2": a_trial(),
        "13_ADL_Walking_1": a_trial(),
    }
    umafall_zip(tmp_path / "a.zip", trials)
    found = umafall.convert(tmp_path / "a.zip")
    assert found["subject"].tolist() == [1, 3], "person 13 is left out"
    assert found["is_fall"].tolist() == [0, 1]
    assert found["activity_names"][found["activity"]].tolist() == ["LyingDown_OnABed", "backwardFall"]
    assert found["trial"].tolist() == [2, 1]
    assert found["split"].tolist() == [0, 1]
    assert found["tag_present"].tolist() == [[True] * 4, [True, False, True, False]]
    assert found["phone_acc"].shape == (2, 3, 750)
    assert found["tag"].shape == (2, 4, 6, 300)
    # At second 10: 1 g and 2 g, 100 and 200 degrees a second; the phone's mean of four lies 7.5 ms later.
    assert found["phone_acc"][0, :, 500].tolist() == pytest.approx([2000, 4000, 2000], abs=4)
    assert found["tag"][0, 2, :, 200].tolist() == [2000, 4000, 2000, 1600, 3200, 1600]
    assert not found["tag"][1, 1].any()


def test_a_short_trial_keeps_its_last_value_to_the_end() -> None:
    phone, _, _ = umafall.trial(a_trial((0,), seconds=12), "short.csv")
    assert set(phone[0, 610:].tolist()) == {phone[0, 600]}


def test_a_trial_that_is_no_trial_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match=r"x\.csv: 2 of 3 lines are not seven numbers"):
        umafall.trial(b"% remark\n1;2;3;4;5;0;0\n1;2;3\n1,5;x;;;;;", "x.csv")
    with pytest.raises(InvalidData, match=r"x\.csv has 0 samples of the phone's acceleration"):
        umafall.trial(a_trial((1,)), "x.csv")
    umafall_zip(tmp_path / "a.zip", {})
    with pytest.raises(InvalidData, match="has no files named UMAFall_Subject_NN"):
        umafall.convert(tmp_path / "a.zip")
