"""UMAFall: people who fall and who live their day, with a phone and four body tags; split by person, cut in windows.

`python -m peekserve.applications.falls.load --out DIR` writes train.npz, reference.npz, validation.npz, test.npz.

A row is three seconds. Where it lies is read off a fixed grid and, for falls, off the body tags: never off the phone,
whose peak would otherwise stand in the middle of every fall. Training rows are written as they were recorded; those of
the other parts are spoiled once and for all (`spoiled`), and training spoils its own anew each time.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from peekserve.applications.splits import Split, Splits, a_few_of_each
from peekserve.errors import InvalidData
from peekserve.registry.datasets import dataset_file

FILE = "umafall/trials.npz"
NEEDED = ("subject", "phone_acc", "tag", "tag_present", "is_fall")
SEED = 20_25
SECONDS = 3
PHONE_HZ, TAG_HZ = 50, 20
ACCELERATION, ROTATION = 2000.0, 16.0  # steps in a g, and in a degree a second, of the file's int16
INSIDE_S = 0.5  # a window counts as a fall if the impact lies this far from both its ends
IMPACT_AFTER_S, IMPACT_BEFORE_S = 1.0, 8.0  # everybody is down by then; some get up later, and not gently
REFERENCE_PEOPLE = (7, 8, 12)
# Not the file's own split, whose validation part has but two people who fall: two more, taken from its test part.
VALIDATION_PEOPLE = (3, 5, 6, 14, 15)
TEST_PEOPLE = (4, 9, 10, 11, 17)
REFERENCE_PER_CLASS = 100
LOST = 0.35  # how often a window goes without one of the tags; at least one always stays
PHONE_NOISE_G, TAG_NOISE_G, TAG_NOISE_TURN = 0.3, 0.3, 0.3  # the last in hundreds of degrees a second

Trials = dict[str, NDArray[np.generic]]


def impacts_s(tag: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """When each of n people hit the ground: the median instant, over the tags they wore, of the strongest
    acceleration. `tag` is [n, position, axis, t] at 20 Hz. The phone is not asked: where a window lies must not
    depend on what the phone shows."""
    first, last = int(IMPACT_AFTER_S * TAG_HZ), int(IMPACT_BEFORE_S * TAG_HZ)
    strength = np.square(tag[:, :, :3, first:last]).sum(2)
    instants = (first + strength.argmax(2)) / TAG_HZ
    return np.asarray(np.nanmedian(np.where(present, instants, np.nan), axis=1))


def windows(found: Trials, people: tuple[int, ...], fall_step_s: float, daily_step_s: float) -> Split:
    """Every window of these people's trials on a fixed grid: of daily life each, of falls those with the impact
    well inside. What a tag was not there to record is zeros. A group is a person.

    Inputs: `phone` [n, 150, 3] in g, x y z; `tags` [n, 60, 4, 6], the positions chest, waist, wrist, ankle, of each
    acceleration in g and rotation in hundreds of degrees a second. Labels: 0 daily life, 1 fall.
    """
    mine = np.flatnonzero(np.isin(found["subject"], people))
    phone = found["phone_acc"][mine].astype(np.float32) / np.float32(ACCELERATION)
    tag = found["tag"][mine].astype(np.float32)
    tag[:, :, :3] /= np.float32(ACCELERATION)
    tag[:, :, 3:] /= np.float32(ROTATION * 100)
    fell = found["is_fall"][mine].astype(bool)
    impact_s = impacts_s(tag, found["tag_present"][mine].astype(bool))
    last_s = phone.shape[2] / PHONE_HZ - SECONDS
    rows: tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]] = ([], [])
    labels, groups = [], []
    for i in range(len(mine)):
        for start_s in np.arange(0.0, last_s + 1e-9, fall_step_s if fell[i] else daily_step_s):
            if fell[i] and not INSIDE_S <= impact_s[i] - start_s <= SECONDS - INSIDE_S:
                continue
            p, t = round(start_s * PHONE_HZ), round(start_s * TAG_HZ)
            rows[0].append(phone[i, :, p : p + SECONDS * PHONE_HZ].T)
            rows[1].append(tag[i, :, :, t : t + SECONDS * TAG_HZ].transpose(2, 0, 1))
            labels.append(int(fell[i]))
            groups.append(int(found["subject"][mine[i]]))
    inputs = {"phone": np.array(rows[0]), "tags": np.array(rows[1])}
    return Split(inputs, np.array(labels, dtype=np.int64), np.array(groups, dtype=np.int64))


def spoiled(split: Split, rng: np.random.Generator) -> Split:
    """The same rows made harder: noise on both sensors, the phone lying any way round in its pocket, tags lost."""
    n = len(split)
    turned, upper = np.linalg.qr(rng.normal(size=(n, 3, 3)))
    # Without the signs some turns would be likelier than others, and without the determinant half were mirror images.
    turned *= np.sign(np.einsum("nii->ni", upper))[:, None, :]
    turned[:, :, 0] *= np.linalg.det(turned)[:, None]
    phone = split.inputs["phone"] @ turned.transpose(0, 2, 1)
    phone += rng.normal(0.0, PHONE_NOISE_G, phone.shape)
    tags = split.inputs["tags"]
    there = np.asarray(tags.any((1, 3)))
    kept = there & (rng.random(there.shape) >= LOST)
    one = np.where(there, rng.random(there.shape), -1.0).argmax(1)  # of those that were worn
    kept[np.arange(n), one] |= there[np.arange(n), one]
    noise = rng.normal(size=tags.shape) * np.repeat([TAG_NOISE_G, TAG_NOISE_TURN], 3)
    tags = (tags + noise) * kept[:, None, :, None]
    inputs = {"phone": phone.astype(np.float32), "tags": tags.astype(np.float32)}
    return Split(inputs, split.labels, split.groups)


def trials(path: Path) -> Trials:
    """The arrays of the file that are needed. Raises InvalidData for another kind of file."""
    with np.load(path, allow_pickle=False) as file:
        absent = [name for name in NEEDED if name not in file.files]
        if absent:
            raise InvalidData(f"{path} has no {', '.join(absent)}; it has {', '.join(file.files)}")
        return {name: file[name] for name in NEEDED}


def parted(found: Trials) -> Splits:
    """Four parts that share no person. Windows of the same fall overlap, in every part."""
    held_out = REFERENCE_PEOPLE + VALIDATION_PEOPLE + TEST_PEOPLE
    others = tuple(int(one) for one in np.setdiff1d(found["subject"], held_out))
    reference = a_few_of_each(windows(found, REFERENCE_PEOPLE, 0.5, 1.5), REFERENCE_PER_CLASS, SEED)
    return Splits(
        windows(found, others, 0.25, 1.0),
        spoiled(reference, np.random.default_rng(SEED + 1)),
        spoiled(windows(found, VALIDATION_PEOPLE, 0.5, 1.5), np.random.default_rng(SEED + 2)),
        spoiled(windows(found, TEST_PEOPLE, 0.5, 1.5), np.random.default_rng(SEED + 3)),
    )


def load() -> Splits:
    """Raises DataUnavailable where the file is not here, InvalidData where it is another one."""
    return parted(trials(dataset_file(FILE)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    load().save(parser.parse_args().out)
