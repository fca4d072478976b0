"""`peekserve supernet`: from a folder with labelled data and a recipe to graphs that ONNX Runtime answers from."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from peekserve.cli.main import app

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from peekserve.cli.recipes import outline, read_recipe  # noqa: E402
from peekserve.errors import InvalidConfiguration, InvalidData, InvalidModel  # noqa: E402
from peekserve.supernets.storage import WEIGHTS, read_arrays, read_description  # noqa: E402
from tests.supernets.beats import ANSWERS, LABELS, LENGTH, ROWS, UNSEEN  # noqa: E402

APPLICATION = f"""
application: bumps
classes: [none, {{name: up, weight: 2}}, down]
inputs: {{row: {{datatype: FP32, shape: [{LENGTH}]}}}}
deadline: 100ms
"""
RECIPE = f"""
architecture: conv1d
input: {{row: {{reshape: [1, {LENGTH}]}}}}
sizes: {{channels: [8, 12], stem_kernel: 5}}
depths: [2, 1]
widths: [0.5, 1]
epochs: 3
peak: 0.01
"""


# A front of 8 bands over windows of 64 samples.
CLIPS = """
architecture: conv1d
input: {row: x}
sizes: {channels: [8, 12], front: [30, 64, 32, 8]}
depths: [2, 1]
widths: [0.5, 1]
epochs: 1
"""


def output(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(app, ["supernet", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "application.yaml").write_text(APPLICATION)
    (tmp_path / "wide.yaml").write_text(RECIPE)
    np.savez(tmp_path / "train.npz", row=ROWS[:, 0], labels=LABELS)
    np.savez(tmp_path / "validation.npz", row=UNSEEN[:, 0], labels=ANSWERS)
    return tmp_path


def test_the_whole_way_from_data_to_graphs(folder: Path):
    trained = output("train", folder, "wide")
    assert trained["subnets"] == 4
    assert read_description(folder / "wide").classes == ("none", "up", "down")
    some = output("calibrate", folder, "wide", "--subnets", "d1-1.w50,d2-1.w50")
    assert some["calibrated"] == ["d1-1.w50", "d2-1.w50", "d2-1.w100"]
    chosen = output("pareto", folder, "wide")
    assert (chosen["evaluated"], chosen["exhaustive"]) == (4, True)
    offered = [one["subnet"] for one in chosen["offered"]]
    assert offered == [one.name for one in read_description(folder / "wide").offered]
    written = output("export", folder, "wide")
    assert written["subnets"] == offered
    sums = read_description(folder / "wide").files
    assert len(sums) == 2 + len(offered)
    output("pareto", folder, "wide")
    assert read_description(folder / "wide").files == sums

    ort = pytest.importorskip("onnxruntime")
    for one in chosen["offered"]:
        session = ort.InferenceSession(str(folder / "wide" / "subnets" / f"{one['subnet']}.onnx"))
        said = session.run(None, {"x": UNSEEN})[0].argmax(1)
        assert abs((said == ANSWERS).mean() - one["accuracy"]) <= 2 / len(ANSWERS)


def test_the_same_seed_trains_the_same_weights(folder: Path):
    for name in ("one", "other"):
        output("train", folder, name, "--recipe", folder / "wide.yaml", "--epochs", 1)
    assert (folder / "one" / WEIGHTS).read_bytes() == (folder / "other" / WEIGHTS).read_bytes()


def test_statistics_are_of_training_data_alone(folder: Path):
    output("train", folder, "wide", "--epochs", 1)
    weights = []
    for labels in (ANSWERS, 2 - ANSWERS):
        np.savez(folder / "validation.npz", row=UNSEEN[:, 0] * len(weights), labels=labels)
        output("pareto", folder, "wide")
        weights.append((folder / "wide" / WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
    (folder / "validation.npz").unlink()
    output("calibrate", folder, "wide", "--subnets", "all")


def test_people_see_a_table(folder: Path):
    output("train", folder, "wide", "--epochs", 1)
    done = CliRunner().invoke(app, ["supernet", "pareto", str(folder), "wide"], env={"COLUMNS": "150"})
    assert "multiply-adds" in done.stdout
    assert "4 subnets evaluated, the whole space" in done.stdout


@pytest.mark.parametrize(
    ("line", "instead", "said"),
    [
        ("architecture: conv1d", "architecture: conv9", "wide.yaml:2: architecture: .*conv9"),
        ("depths: [2, 1]", "depth: [2, 1]", "unknown key 'depth'; did you mean 'depths'"),
        ("widths: [0.5, 1]", "widths: [0.5, 0.9]", "wide.yaml: widths .* the last 1.0"),
        ("stem_kernel: 5", "stem_colour: 5", "unknown key 'stem_colour'"),
        ("input: {row:", "input: {beat:", "no input 'beat'"),
    ],
)
def test_a_wrong_recipe_is_told_with_its_line(folder: Path, line: str, instead: str, said: str):
    (folder / "wide.yaml").write_text(RECIPE.replace(line, instead))
    with pytest.raises(InvalidConfiguration, match=said):
        read_recipe(folder / "wide.yaml", outline(folder))


def test_rows_change_as_the_recipe_says_and_so_do_those_of_the_statistics(folder: Path):
    output("train", folder, "wide", "--epochs", 1)
    output("calibrate", folder, "wide", "--subnets", "d1-1.w50")
    (folder / "other.yaml").write_text(RECIPE + "augment: {shift: 2, level: 3}\nper_class: 20\n")
    assert output("train", folder, "other", "--epochs", 1)["steps"] == 1  # 60 rows at most, in batches of 64
    output("calibrate", folder, "other", "--subnets", "d1-1.w50")
    of_plain, of_changed = (
        read_arrays(folder / name, read_description(folder / name))["norm/d1-1.w50/stem.norm/var"]
        for name in ("wide", "other")
    )
    assert (of_changed > 1.5 * of_plain).any(), "the level of a row varies, and with it all that follows"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("augment: {shft: 2}", r"wide\.yaml:\d+: augment: unknown key 'shft'; did you mean 'shift'"),
        ("augment: {noise: -1}", r"wide\.yaml:\d+: augment\.noise: -1 is not 0 or more"),
        (f"augment: {{shift: {LENGTH}}}", f"shift {LENGTH}, of rows .*: less than the {LENGTH} places"),
        ("per_class: 0", r"wide\.yaml:\d+: per_class: 0 is not 1 or more"),
    ],
)
def test_an_augmentation_that_cannot_be_is_told(folder: Path, line: str, said: str):
    (folder / "wide.yaml").write_text(RECIPE + line + "\n")
    with pytest.raises(InvalidConfiguration, match=said):
        output("train", folder, "wide")


def test_a_training_goes_on_from_its_checkpoint_and_leaves_none(folder: Path):
    kept = folder / "checkpoint"
    output("train", folder, "whole", "--recipe", folder / "wide.yaml")
    with pytest.raises(KeyboardInterrupt):
        _interrupted(folder, kept)
    assert kept.is_file()
    np.savez(folder / "fewer.npz", row=ROWS[:64, 0], labels=LABELS[:64])
    with pytest.raises(InvalidModel, match=r"another training: training data sha256 .*192 rows .*64 rows"):
        output("train", folder, "wide", "--checkpoint", kept, "--train", folder / "fewer.npz")
    (folder / "wide.yaml").write_text(RECIPE + "augment: {noise: 0.1}\n")
    with pytest.raises(InvalidModel, match=r"another training: augment none, here noise 0\.1"):
        output("train", folder, "wide", "--checkpoint", kept)
    (folder / "wide.yaml").write_text(RECIPE)
    output("train", folder, "wide", "--checkpoint", kept)
    assert (folder / "wide" / WEIGHTS).read_bytes() == (folder / "whole" / WEIGHTS).read_bytes()
    assert not kept.exists(), "another training begins anew"


def _interrupted(folder: Path, kept: Path) -> None:
    """The training of `wide`, up to its second epoch."""
    from peekserve.cli import supernets as command
    from peekserve.supernets import operators, train

    recipe = read_recipe(folder / "wide.yaml", app := outline(folder))
    rows, labels = command.labelled_rows(folder / "train.npz", app, recipe)
    train.seeded(1)
    sizes = {**recipe.sizes, "shape": list(rows.shape[1:]), "classes": 3, "blocks": list(recipe.space.depths)}
    supernet = operators.Supernet(command.networks.build("conv1d", sizes), recipe.space)

    def seen(progress: train.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    checkpoint = command._checkpoint(kept, recipe, app, rows, labels)
    train.train(
        supernet, command._epochs(recipe, rows, labels), recipe.epochs, 1, recipe.peak, seen, checkpoint
    )


def test_people_see_how_far_both_ends_came(folder: Path):
    done = CliRunner().invoke(app, ["supernet", "train", str(folder), "wide"], env={"COLUMNS": "150"})
    assert re.search(r"d1-1\.w50 .*\n.*d2-1\.w100", done.stdout), done.stdout
    assert "loss, epoch 1" in done.stdout
    assert "Next: peekserve supernet pareto" in done.stdout


def test_sizes_that_are_missing_are_told(folder: Path):
    (folder / "wide.yaml").write_text(RECIPE.replace("channels: [8, 12], ", ""))
    with pytest.raises(InvalidConfiguration, match=r"missing .*channels"):
        output("train", folder, "wide")


def test_an_even_kernel_is_told_as_one(folder: Path):
    (folder / "wide.yaml").write_text(RECIPE.replace("stem_kernel: 5", "kernel: 4"))
    with pytest.raises(InvalidConfiguration, match="kernel 4: odd, as blocks add"):
        output("train", folder, "wide")


def test_data_of_another_application_are_refused(folder: Path):
    np.savez(folder / "train.npz", column=ROWS[:, 0], labels=LABELS)
    with pytest.raises(InvalidData, match="column"):
        output("train", folder, "wide")


def test_what_comes_too_early_says_what_comes_first(folder: Path):
    with pytest.raises(InvalidModel, match="holds no supernet"):
        output("pareto", folder, "wide")
    output("train", folder, "wide", "--epochs", 1)
    with pytest.raises(InvalidConfiguration, match="run `peekserve supernet pareto"):
        output("export", folder, "wide")
    with pytest.raises(
        InvalidModel, match=r"missing: run `peekserve supernet calibrate .* wide --subnets d1-1\.w50`"
    ):
        output("export", folder, "wide", "--subnets", "d1-1.w50")
    with pytest.raises(InvalidConfiguration, match="stage 1 cannot run 2 blocks"):
        output("export", folder, "wide", "--subnets", "d1-2.w50")


def test_a_trained_supernet_is_not_written_over_unasked(folder: Path):
    output("train", folder, "wide", "--epochs", 1)
    before = (folder / "wide" / WEIGHTS).read_bytes()
    with pytest.raises(InvalidConfiguration, match=r"wide holds a trained supernet: .* --again"):
        output("train", folder, "wide", "--epochs", 1, "--seed", 2)
    assert (folder / "wide" / WEIGHTS).read_bytes() == before
    output("train", folder, "wide", "--epochs", 1, "--seed", 2, "--again")
    assert (folder / "wide" / WEIGHTS).read_bytes() != before


def test_a_supernet_stays_in_its_application(folder: Path):
    with pytest.raises(InvalidConfiguration, match=r"supernet name '\.\./\.\./evil'"):
        output("train", folder, "../../evil", "--recipe", folder / "wide.yaml")
    assert not (folder.parent.parent / "evil").exists()


def test_classes_without_rows_are_told(folder: Path):
    np.savez(folder / "train.npz", row=ROWS[:1, 0], labels=np.array([1]))
    with pytest.raises(
        InvalidData, match=r"none of its rows \(1\) is of none, down: each of the 3 classes needs rows"
    ):
        output("train", folder, "wide")
    assert not (folder / "wide").exists()


def test_missing_files_are_told_with_their_option(folder: Path):
    with pytest.raises(
        InvalidConfiguration, match=r"tall\.yaml: .* docs/repository\.md#supernets .* --recipe"
    ):
        output("train", folder, "tall")
    with pytest.raises(InvalidData, match=r"none\.npz: there is no such file; .* --train"):
        output("train", folder, "wide", "--train", folder / "none.npz")
    output("train", folder, "wide", "--epochs", 1)
    with pytest.raises(InvalidData, match=r"none\.npz: there is no such file; .* --validation"):
        output("pareto", folder, "wide", "--validation", folder / "none.npz")


def test_a_front_hears_from_the_start(folder: Path):
    (folder / "application.yaml").write_text(APPLICATION.replace(f"[{LENGTH}]", "[400]"))
    clips = np.random.default_rng(3).normal(size=(24, 400)).astype(np.float32)
    np.savez(folder / "train.npz", row=clips, labels=np.arange(24) % 3)
    (folder / "wide.yaml").write_text(CLIPS.replace("front: [30,", "front: [33,"))
    with pytest.raises(
        InvalidConfiguration, match="8 bands over a window of 64 samples hear 30 frequencies, not 33"
    ):
        output("train", folder, "wide")
    (folder / "wide.yaml").write_text(CLIPS)
    output("train", folder, "wide")
    kernels = read_arrays(folder / "wide", read_description(folder / "wide"))
    assert kernels["front.transform"].any(axis=(1, 2)).sum() == 60
    assert kernels["front.bands"].any(axis=(1, 2)).all()


def test_large_convolutions_are_exported_in_one_copy_where_asked(folder: Path):
    # Two convolutions of the second stage weigh more than prefixes.WORTH.
    (folder / "wide.yaml").write_text(RECIPE.replace("[8, 12]", "[8, 320]"))
    np.savez(folder / "train.npz", row=ROWS[:32, 0], labels=LABELS[:32])
    output("train", folder, "wide", "--epochs", 1)
    output("calibrate", folder, "wide", "--subnets", "all")
    plain = output("export", folder, "wide", "--subnets", "all")
    apart = output("export", folder, "wide", "--subnets", "all", "--take-apart")
    assert apart["bytes"] < 0.9 * plain["bytes"]
