from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.application import Application, Variant
from peekserve.domain.tensors import InputMap, Missing, Padding, TensorSpec, pad_to_bucket
from peekserve.errors import InvalidData, InvalidTensor
from peekserve.registry.labelled import bucketed, read_labelled
from tests.registry.folders import labelled

IMAGE = TensorSpec("image", "FP32", (2, 2))
WAVE = TensorSpec("wave", "FP32", (1, -1), (3, 5))


def an_application(*inputs: TensorSpec) -> Application:
    return Application(
        "digits",
        ("a", "b"),
        (Variant("v", "r", "r", (InputMap(inputs[0].name, "x"),)),),
        (0.5, 0.5),
        inputs=inputs,
    )


def test_what_was_written_is_read(tmp_path):
    labelled(tmp_path / "d.npz", groups=np.array(["p", "p", "q", "q", "r", "r"]))
    read = read_labelled(tmp_path / "d.npz", an_application(IMAGE))
    assert read.rows == 6
    assert read.inputs["image"].dtype == np.float32
    assert read.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert read.take([5, 2]).groups.tolist() == ["r", "q"]


def test_labels_may_be_names_of_classes(tmp_path):
    labelled(tmp_path / "d.npz", labels=np.array(["b", "a", "a", "a", "a", "b"]))
    assert read_labelled(tmp_path / "d.npz", an_application(IMAGE)).labels.tolist() == [1, 0, 0, 0, 0, 1]


def test_numbers_of_another_kind_become_the_applications(tmp_path):
    labelled(tmp_path / "d.npz", image=np.ones((6, 2, 2), np.float64))
    assert read_labelled(tmp_path / "d.npz", an_application(IMAGE)).inputs["image"].dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": None}, "holds no 'labels'"),
        (
            {"labels": np.array([0, 1, 2, 0, 1, 7])},
            "label 2 in row 2 is out of range: 2 classes have the labels 0 to 1",
        ),
        ({"labels": np.array([0, -1, 0, 0, 1, 1])}, "label -1 in row 1 is out of range"),
        ({"labels": np.array(["a", "c"] * 3)}, "unknown class 'c' in row 1 of labels; classes: a, b"),
        ({"labels": np.zeros(6)}, "labels are class indices or names [n], n 1 or more, not float64 [6]"),
        ({"image": np.zeros((6, 3, 2), np.float32)}, "input 'image' has shape [6, 3, 2]; it needs [6, 2, 2]"),
        ({"image": np.zeros((5, 2, 2), np.float32)}, "input 'image' has shape [5, 2, 2]; it needs [6, 2, 2]"),
        ({"image": np.zeros((6, 2, 2), "U3")}, "input 'image' is <U3; it cannot become FP32"),
        ({"image": None}, "holds none of the inputs image; it has labels"),
        ({"imag": np.zeros(6)}, "holds 'imag', which is no input of 'digits'"),
        ({"groups": np.zeros(6)}, "groups are whole numbers or texts [6], not float64 [6]"),
        (
            {"image": np.array([{}] * 6, object)},
            "is no archive of plain arrays (npz): it holds Python objects",
        ),
    ],
)
def test_data_that_do_not_fit_are_named(tmp_path, arrays, message):
    labelled(tmp_path / "d.npz", **arrays)
    with pytest.raises(InvalidData) as raised:
        read_labelled(tmp_path / "d.npz", an_application(IMAGE))
    assert f"{tmp_path}/d.npz: {message}" in str(raised.value)


def test_all_faults_come_together(tmp_path):
    labelled(tmp_path / "d.npz", labels=np.full(6, 9), image=np.zeros((6, 1), np.float32))
    with pytest.raises(InvalidData, match=r"label 9 in row 0(?s:.*)has shape \[6, 1\]; it needs \[n, 2, 2\]"):
        read_labelled(tmp_path / "d.npz", an_application(IMAGE))


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 not really", b"\x93NUMPY", b"plain text", b"\x80\x04K\x01."]
)
def test_a_file_that_is_no_archive_is_named(tmp_path, content):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(InvalidData, match=r"d\.npz: is no archive of plain arrays \(npz\)"):
        read_labelled(tmp_path / "d.npz", an_application(IMAGE))


def test_one_array_alone_and_no_file_at_all_are_named(tmp_path):
    with (tmp_path / "d.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(InvalidData, match="is one array and not an archive of them"):
        read_labelled(tmp_path / "d.npz", an_application(IMAGE))
    with pytest.raises(InvalidData, match="there is no such file"):
        read_labelled(tmp_path / "absent.npz", an_application(IMAGE))


def test_a_nan_is_refused_unless_it_means_a_missing_value(tmp_path):
    image = np.zeros((6, 2, 2), np.float32)
    image[4, 1, 1] = np.nan
    labelled(tmp_path / "d.npz", image=image)
    with pytest.raises(
        InvalidData,
        match="'image' holds NaN or infinity in 1 of 6 rows, first in row 4; write 'missing: missing'",
    ):
        read_labelled(tmp_path / "d.npz", an_application(IMAGE))
    lenient = TensorSpec("image", "FP32", (2, 2), missing=Missing.MISSING)
    assert np.isnan(read_labelled(tmp_path / "d.npz", an_application(lenient)).inputs["image"][4, 1, 1])


def waves(path: Path, lengths: list[int], **arrays) -> None:
    wave = np.full((len(lengths), 1, 5), np.nan, np.float32)
    for row, length in enumerate(lengths):
        wave[row, 0, :length] = np.arange(1, length + 1)
    plain = {"wave": wave, "wave_length": np.array(lengths), "labels": np.zeros(len(lengths), int)}
    np.savez(path, **{**plain, **arrays})


def test_rows_are_padded_to_their_own_bucket(tmp_path):
    waves(tmp_path / "d.npz", [2, 5, 3])  # filled with NaN beyond their ends, which is nobody's business
    application = an_application(WAVE)
    short, long = bucketed(read_labelled(tmp_path / "d.npz", application), application)
    assert (short[0], short[1].tolist(), long[0], long[1].tolist()) == (0, [0, 2], 1, [1])
    assert short[2]["wave"].tolist() == [[[1, 2, 0]], [[1, 2, 3]]]
    assert long[2]["wave"].tolist() == [[[1, 2, 3, 4, 5]]]


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([2, 6, 1], "wave_length is 6 in row 1; it is 1 to 5"),
        ([0, 1, 1], "wave_length is 0 in row 0; it is 1 to 5"),
    ],
)
def test_a_length_that_cannot_be_is_named(tmp_path, lengths, message):
    waves(tmp_path / "d.npz", [1, 1, 1], wave_length=np.array(lengths))
    with pytest.raises(InvalidData, match=message):
        read_labelled(tmp_path / "d.npz", an_application(WAVE))


@given(st.integers(1, 5), st.integers(0, 3), st.sampled_from(Padding))
def test_padding_keeps_the_row_and_fills_the_end(length, rows, pad):
    spec = TensorSpec("wave", "FP32", (2, -1), (5, 8), pad)
    values = np.arange(rows * 2 * length, dtype=np.float32).reshape(rows, 2, length) + 1
    padded = pad_to_bucket(values, spec, 1)
    assert padded.shape == (rows, 2, 8)
    assert padded.dtype == np.float32
    assert (padded[:, :, :length] == values).all()
    assert (padded[:, :, length:] == (values[:, :, -1:] if pad is Padding.EDGE else 0)).all()
    if rows:
        assert (pad_to_bucket(values[0], spec, 1) == padded[0]).all()


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(InvalidTensor, match="does not fit"):
        pad_to_bucket(np.zeros((1, 6)), WAVE, 1)
    with pytest.raises(InvalidTensor, match="does not fit"):
        pad_to_bucket(np.zeros((2, 3)), WAVE, 1)
    with pytest.raises(InvalidTensor, match="4 axes, where a row has 2"):
        pad_to_bucket(np.zeros((1, 1, 1, 3)), WAVE, 0)
