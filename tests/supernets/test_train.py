"""The sandwich rule: the ends of the space learn in every step, and whatever lies between them now and then."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from peekserve.supernets.calibrate import calibrate  # noqa: E402
from peekserve.supernets.train import RANDOM, SMOOTHING, Progress, sandwich, train  # noqa: E402
from tests.supernets.beats import LABELS, ROWS, SPACE, a_supernet, batches, trained  # noqa: E402


def test_both_ends_of_the_space_learn():
    seen: list[Progress] = []
    supernet, spent = trained(seen=seen.append)
    assert [one.epoch for one in seen] == list(range(1, 17))
    assert seen[-1].largest < 0.6 * seen[0].largest
    assert seen[-1].smallest < 0.7 * seen[0].smallest
    assert spent.steps == 16 * 3  # 192 rows in batches of 64
    assert not supernet.training


def test_every_step_shows_its_rows_to_the_ends_and_two_more():
    _, spent = trained(epochs=3)
    assert spent.rows[SPACE.largest] >= 3 * len(LABELS)
    assert spent.rows[SPACE.smallest] >= 3 * len(LABELS)
    assert sum(spent.rows.values()) == (2 + RANDOM) * 3 * len(LABELS)


def test_the_same_seed_gives_the_same_weights():
    one, other = (trained(epochs=2, seed=3)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    third = trained(epochs=2, seed=4)[0].state_dict()
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_only_the_largest_is_told_the_labels():
    rows = torch.from_numpy(ROWS[:32])

    def gradients(labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """What the largest alone gives to the head's weights, and what the smallest adds."""
        supernet = a_supernet().train()
        torch.manual_seed(5)  # of the dropout
        supernet.actuate(SPACE.largest)
        loss = torch.nn.functional.cross_entropy(
            supernet(rows), torch.from_numpy(labels), label_smoothing=SMOOTHING
        )
        loss.backward()
        alone = supernet.network.head.weight.grad.clone()
        supernet.zero_grad()
        torch.manual_seed(5)
        sandwich(supernet, [ROWS[:32]], labels, [SPACE.smallest])
        return alone, supernet.network.head.weight.grad - alone

    alone, added = gradients(LABELS[:32])
    alone_of_others, added_of_others = gradients((LABELS[:32] + 1) % 3)
    assert not torch.allclose(alone, alone_of_others, atol=1e-3)
    assert added.abs().max() > 1e-3
    torch.testing.assert_close(added, added_of_others, atol=1e-5, rtol=0.0)


def test_training_again_forgets_the_statistics_of_the_weights_before():
    supernet, _ = trained(epochs=1)
    calibrate(supernet, [SPACE.smallest], ROWS)
    assert SPACE.smallest.name in supernet.norms
    train(supernet, batches, 1, seed=0)
    assert list(supernet.norms) == [SPACE.largest.name]


def test_batches_hold_every_row_once():
    made = batches(np.random.default_rng(0))
    assert sorted(np.concatenate([labels for _, labels in made]).tolist()) == sorted(LABELS.tolist())
