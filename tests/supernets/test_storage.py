"""A supernet on disk: what was saved is what is loaded, and what is damaged is refused with a sentence."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.numpy")

from peekserve.errors import InvalidConfiguration, InvalidModel, UnknownVariant  # noqa: E402
from peekserve.supernets.calibrate import calibrate  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.space import Space, Subnet  # noqa: E402
from peekserve.supernets.storage import (  # noqa: E402
    DESCRIPTION,
    FORMAT,
    WEIGHTS,
    Description,
    Offered,
    load,
    read_arrays,
    read_description,
    save,
)
from tests.supernets.beats import ROWS, SIZES, SPACE, a_supernet  # noqa: E402
from tests.supernets.nets import SIZES as OTHER_SIZES  # noqa: E402
from tests.supernets.nets import SPACES, rows_of  # noqa: E402
from tests.supernets.nets import a_supernet as another  # noqa: E402

NARROW = Subnet((1, 2), (0.25, 0.25))
DESCRIBED = Description(SPACE, SIZES, ("none", "up", "down"), (1, 24), trained={"seed": 0})


@pytest.fixture
def supernet() -> Supernet:
    supernet = a_supernet().eval()
    calibrate(supernet, [NARROW, SPACE.largest], ROWS)
    return supernet


@pytest.fixture
def folder(tmp_path: Path, supernet: Supernet) -> Path:
    save(supernet, tmp_path / "wide", replace(DESCRIBED, offered=(Offered(NARROW, 80, 100, 321, 4567),)))
    return tmp_path / "wide"


def rewritten(folder: Path, **changes: object) -> Path:
    """The description with some keys changed, by hand."""
    path = folder / DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def reweighed(folder: Path, without: str) -> Path:
    """The weights without some arrays, their checksum set right."""
    arrays = safetensors.load_file(folder / WEIGHTS)
    content = safetensors.save({name: array for name, array in arrays.items() if without not in name})
    (folder / WEIGHTS).write_bytes(content)
    return rewritten(folder, files={WEIGHTS: hashlib.sha256(content).hexdigest()})


def test_what_was_saved_answers_the_same(folder: Path, supernet: Supernet):
    found, rows = load(folder), torch.from_numpy(ROWS[:8])
    for subnet in (NARROW, SPACE.largest):
        for one in (found, supernet):
            one.actuate(subnet)
        with torch.no_grad():
            assert torch.equal(found(rows), supernet(rows))


def test_a_transformer_needs_no_statistics_and_is_found_again(tmp_path: Path):
    space, small = SPACES["transformer"], SPACES["transformer"].smallest
    supernet = another("transformer", [small])
    save(supernet, tmp_path, Description(space, OTHER_SIZES["transformer"], tuple("abcd"), (6, 11)))
    found = load(tmp_path)
    for one in (found, supernet):
        one.actuate(small)
    with torch.no_grad():
        assert torch.equal(found(rows_of("transformer", 3)), supernet(rows_of("transformer", 3)))


def test_the_description_is_what_was_told(folder: Path):
    found = read_description(folder)
    assert (found.space, found.sizes, found.classes, found.row) == (
        SPACE,
        SIZES,
        ("none", "up", "down"),
        (1, 24),
    )
    assert set(found.calibrated) == {NARROW.name, SPACE.largest.name}
    one = found.offer(NARROW.name)
    assert (one.accuracy, one.parameters, one.multiply_adds) == (0.8, 321, 4567)
    assert one.interval[0] < 0.8 < one.interval[1]
    assert found.trained == {"seed": 0}
    assert found.files == {WEIGHTS: hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()}


def test_saving_again_gives_the_same_bytes(folder: Path, tmp_path: Path):
    save(load(folder), tmp_path / "again", read_description(folder))
    for name in (DESCRIPTION, WEIGHTS):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_descriptions_and_arrays_are_read_without_torch(folder: Path):
    code = f"""
import sys
sys.modules["torch"] = None  # import of it now raises
from pathlib import Path
from peekserve.supernets.storage import read_arrays, read_description
folder = Path({str(folder)!r})
print(len(read_arrays(folder, read_description(folder))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(len(read_arrays(folder, read_description(folder)))), done.stderr


def test_another_version_is_refused(folder: Path):
    with pytest.raises(InvalidModel, match=f"format {FORMAT + 1}, and this peekserve reads {FORMAT}"):
        read_description(rewritten(folder, format=FORMAT + 1))
    # Another version may well have other keys: its number is what is told.
    with pytest.raises(InvalidModel, match="format 9"):
        read_description(rewritten(folder, format=9, space="somewhere"))


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(folder: Path, keep: int):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:keep])
    with pytest.raises(InvalidModel, match="truncated, or of another training"):
        load(folder)


def test_truncated_weights_whose_checksum_was_set_right_are_refused(folder: Path):
    content = (folder / WEIGHTS).read_bytes()[:-100]
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(InvalidModel, match=WEIGHTS):
        load(rewritten(folder, files={WEIGHTS: hashlib.sha256(content).hexdigest()}))


def test_one_changed_bit_is_found(folder: Path):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(InvalidModel, match="sha256"):
        load(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path):
    (folder / WEIGHTS).unlink()
    with pytest.raises(InvalidModel, match=f"lacks its weights: {WEIGHTS}"):
        load(folder)
    with pytest.raises(InvalidModel, match=f"holds no supernet: {DESCRIPTION}"):
        read_description(tmp_path / "nowhere")


def test_a_description_of_another_form_is_refused(folder: Path):
    with pytest.raises(InvalidModel, match=r"\$\.classes"):
        read_description(rewritten(folder, classes=5))
    with pytest.raises(InvalidModel, match="colour"):
        read_description(rewritten(folder, classes=["a", "b"], colour="red"))
    (folder / DESCRIPTION).write_text("{")
    with pytest.raises(InvalidModel, match=DESCRIPTION):
        read_description(folder)


def test_missing_statistics_are_refused_with_subnet_and_layer(folder: Path):
    with pytest.raises(InvalidModel, match=f"{NARROW.name}, layer stem.norm: statistics missing"):
        load(reweighed(folder, without="stem.norm/"))


def test_half_of_a_statistic_is_refused(folder: Path):
    with pytest.raises(InvalidModel, match=r"stem\.norm/mean has no var"):
        load(reweighed(folder, without="stem.norm/var"))


def test_missing_and_misshapen_parameters_are_refused(folder: Path):
    with pytest.raises(
        InvalidModel, match=r"is \[24, 16, 1, 3\]; conv1d of these sizes has \[32, 16, 1, 3\]"
    ):
        load(rewritten(folder, sizes={**SIZES, "channels": [16, 32]}))
    with pytest.raises(InvalidModel, match=r"lacks head\.weight"):
        load(reweighed(folder, without="head.weight"))


def test_sizes_that_fit_no_network_are_refused(folder: Path):
    with pytest.raises(InvalidModel, match=r"sizes has \[16, 16, 1, 5\]"):
        load(rewritten(folder, sizes={**SIZES, "kernel": 5}))


def test_what_is_not_offered_is_unknown(folder: Path):
    with pytest.raises(UnknownVariant, match=rf"no subnet 'd2-2\.w25' on offer; there are {NARROW.name}"):
        read_description(folder).offer("d2-2.w25")


def test_an_offer_outside_the_space_is_refused(folder: Path):
    offer = {"subnet": "d3-2.w25", "right": 1, "of": 2, "parameters": 1, "multiply_adds": 1}
    with pytest.raises(InvalidConfiguration, match=r"offers d3-2\.w25: stage 0 cannot run 3 blocks"):
        read_description(rewritten(folder, offered=[offer]))


def test_what_is_wrong_with_a_description_names_its_file(folder: Path):
    offer = {"subnet": "tiny", "right": 1, "of": 2, "parameters": 1, "multiply_adds": 1}
    with pytest.raises(InvalidConfiguration, match=rf"wide/{DESCRIPTION}: offers 'tiny' names no subnet"):
        read_description(rewritten(folder, offered=[offer]))
    space = {"depths": [2, 2], "least": [1, 3], "widths": [0.25, 1.0], "uniform": True}
    with pytest.raises(InvalidConfiguration, match=rf"wide/{DESCRIPTION}: stage 1 runs 3 to 2 blocks"):
        read_description(rewritten(folder, space=space))


def test_checksums_of_what_was_exported_stay_where_the_weights_do(folder: Path, supernet: Supernet):
    (folder / "subnets").mkdir()
    (folder / "subnets" / "weights.bin").write_bytes(b"exported")
    exported = {"subnets/weights.bin": "its sum", "subnets/gone.onnx": "another"}
    known = read_description(folder)
    known = replace(known, files={**known.files, **exported})
    kept = save(supernet, folder, replace(known, offered=())).files
    assert kept == {**read_description(folder).files, "subnets/weights.bin": "its sum"}
    assert set(kept) == {WEIGHTS, "subnets/weights.bin"}

    calibrate(supernet, [Subnet((2, 2), (0.25, 0.25))], ROWS)
    assert set(save(supernet, folder, known).files) == {WEIGHTS}


def test_what_has_no_statistics_cannot_be_offered(supernet: Supernet, tmp_path: Path):
    other = Offered(Subnet((2, 2), (0.25, 0.25)), 1, 2, 1, 1)
    with pytest.raises(InvalidModel, match=r"d2-2\.w25: statistics missing: calibrate"):
        save(supernet, tmp_path, replace(DESCRIBED, offered=(other,)))
    assert not (tmp_path / WEIGHTS).exists()


def test_a_description_of_another_space_is_not_saved(supernet: Supernet, tmp_path: Path):
    with pytest.raises(InvalidModel, match="the description is of"):
        save(supernet, tmp_path, replace(DESCRIBED, space=Space("conv1d", (2, 2), (1, 1), (0.5, 1.0))))
