"""A training that is cut off goes on from its last epoch, to the very bits that it would have reached."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from peekserve.errors import InvalidModel  # noqa: E402
from peekserve.supernets.augment import Augmentation  # noqa: E402
from peekserve.supernets.checkpoint import Checkpoint  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.train import Progress, Spent, as_seen, train  # noqa: E402
from tests.supernets.beats import LABELS, ROWS, a_supernet  # noqa: E402

ABOUT = {"training data": "bumps"}
EPOCHS = as_seen(ROWS, LABELS, Augmentation(shift=(2,), noise=0.1), per_class=40)


class Killed(Exception):
    pass


def run(
    path: Path | None, until: int = 5, seed: int = 3, epochs: int = 5
) -> tuple[Supernet, Spent, list[int]]:
    """A training by a process of its own, as it were: torch's state is another before each. Ends after `until`."""
    supernet, seen = a_supernet(), []
    torch.manual_seed(7 if path is None or not path.exists() else 1234)

    def tell(progress: Progress) -> None:
        seen.append(progress.epoch)
        if progress.epoch == until < epochs:
            raise Killed

    spent = train(
        supernet, EPOCHS, epochs, seed, 1e-2, tell, None if path is None else Checkpoint(path, ABOUT)
    )
    return supernet, spent, seen


def cut_off(path: Path, until: int) -> None:
    with pytest.raises(Killed):
        run(path, until)


def test_it_ends_in_the_same_bits_as_if_it_had_never_been_cut_off(tmp_path):
    whole, spent, _ = run(None)
    path = tmp_path / "a" / "checkpoint"
    cut_off(path, until=2)
    cut_off(path, until=4)
    resumed, again, seen = run(path)
    assert seen == [4, 5], "it says where it goes on from, and repeats no epoch"
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (again.steps, again.rows) == (spent.steps, spent.rows)
    assert not resumed.training


def test_it_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "checkpoint"
    cut_off(path, until=1)
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint"]


def test_one_of_a_training_that_is_over_gives_its_weights(tmp_path):
    path = tmp_path / "checkpoint"
    first, _, _ = run(path)
    second, _, seen = run(path)
    assert seen == [5]
    assert torch.equal(first.network.head.weight, second.network.head.weight)


def test_one_of_another_training_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "checkpoint"
    cut_off(path, until=1)
    with pytest.raises(InvalidModel, match=r"of another training: seed 3, here 4; .*--checkpoint, or delete"):
        run(path, seed=4)
    with pytest.raises(InvalidModel, match="of another training: epochs 5, here 6"):
        run(path, epochs=6)
    with pytest.raises(InvalidModel, match="training data bumps, here other ones"):
        Checkpoint(path, {"training data": "other ones"}).read({})
    with pytest.raises(InvalidModel, match="batch not in it, here 64"):
        Checkpoint(path, {"batch": "64"}).read({})


def test_one_of_another_version_or_cut_off_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    cut_off(path, until=1)
    whole = path.read_bytes()
    for content in (whole[:-200], whole[: len(whole) // 2], b"no checkpoint", b""):
        path.write_bytes(content)
        with pytest.raises(InvalidModel, match="is no checkpoint of a supernet's training, or is cut off"):
            run(path)
    torch.save({"format": 99}, path)
    with pytest.raises(InvalidModel, match="of format 99, and this peekserve reads 1"):
        run(path)
    torch.save([1, 2], path)
    with pytest.raises(InvalidModel, match="is no checkpoint"):
        run(path)
    with pytest.raises(InvalidModel, match="cannot be read: Is a directory"):
        run(tmp_path)
