"""A supernet and the separate models of some of its sizes, trained on the same rows: what sharing costs is then seen.

Both sides see the same augmented rows, by the same optimiser. The supernet is given at least twice the work of all its
separate models together, counted in multiply-adds; what each side took, in seconds of a processor core, too, is written
down beside the weights (`training.json`). Nothing is chosen on the test part. Needs torch.

A folder `NAME/`, NAME the supernet's, holds the supernet as `supernets.storage` writes it, `separate/SUBNET.onnx` and
`training.json`.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from peekserve.applications.direct import session
from peekserve.applications.splits import Split, Splits
from peekserve.applications.training import Epoch, export, fit, seeded
from peekserve.supernets.calibrate import calibrate, drawn
from peekserve.supernets.extract import extract
from peekserve.supernets.measure import Costs, multiply_adds, parameters, probabilities
from peekserve.supernets.networks import build
from peekserve.supernets.operators import Supernet
from peekserve.supernets.pareto import Measured, front, search
from peekserve.supernets.space import Space, Subnet
from peekserve.supernets.storage import Description, Offered, load, read_description, save
from peekserve.supernets.train import Progress, train

Floats = NDArray[np.float32]
Say = Callable[[str], None]

SEPARATE, REPORT = "separate", "training.json"


@dataclass(frozen=True, slots=True)
class Family:
    """How one application's supernet and its separate models come about.

    `sizes`: of the network (`supernets.networks.build`). `epoch`: augmented training rows, as they are behind the
    network's front if it has one; `kernels` fills that front in. `rows`: a split as the network reads it, float32
    [n, *row]. `separate`: the subnets whose sizes are trained separately, too, for `separate_epochs` each. `peak`: of
    the learning rate; `shared_peak`: the supernet's, where it is another, as its gradients are sums of four. `most`:
    how many subnets the search calibrates and evaluates.
    """

    space: Space
    sizes: Mapping[str, Any]
    classes: tuple[str, ...]
    splits: Splits
    epoch: Epoch
    rows: Callable[[Split], Floats]
    epochs: int
    separate: tuple[str, ...]
    separate_epochs: int
    seed: int
    peak: float
    most: int
    shared_peak: float = 0.0
    kernels: Callable[[nn.Module], None] = lambda front: None

    def supernet(self) -> Supernet:
        """Untrained, with first weights from torch's present seed."""
        network = build(self.space.architecture, dict(self.sizes))
        self.kernels(network.front)
        return Supernet(network, self.space)

    def alone(self, subnet: Subnet) -> nn.Module:
        """Untrained, a network of the subnet's size with first weights such as layers of that size get."""
        supernet = self.supernet()
        with supernet.collecting(subnet):  # any statistics will do: they are begun anew
            supernet(supernet.example)
        network = extract(supernet, subnet)
        for part in network.modules():
            if isinstance(part, nn.Linear | nn.Conv2d | nn.BatchNorm2d | nn.LayerNorm):
                part.reset_parameters()
        return network

    def calibration(self) -> Floats:
        """Rows of an epoch: statistics have to be of what the weights learnt with, augmented and in that mix of
        classes. With beats as they come instead, three in five normal, `ecg` lost two to four points."""
        made = self.epoch(np.random.default_rng(self.seed))
        return drawn(np.concatenate([inputs[0] for inputs, _ in made]))

    def right(self, network: nn.Module) -> int:
        """Of the validation rows."""
        said = probabilities(network, self.rows(self.splits.validation)).argmax(1)
        return int((said == self.splits.validation.labels).sum())


class Behind:
    """Inside it, a network reads what its front would give: the front learns nothing, and would be computed again for
    every subnet of a sandwich."""

    def __init__(self, network: nn.Module) -> None:
        self._network, self._front = network, network.front

    def __enter__(self) -> None:
        self._network.front = nn.Identity()

    def __exit__(self, *_: object) -> None:
        self._network.front = self._front


def make(family: Family, folder: Path, say: Say) -> None:
    """Train both sides, calibrate, search the front on the validation part, write all into the folder."""
    seeded(family.seed)
    costs = Costs(family.space, family.sizes, front=False)  # of a row in training
    report: dict[str, Any] = {
        "seed": family.seed,
        "separate": {name: one_alone(family, name, costs, folder, say) for name in family.separate},
        "supernet": together(family, costs, folder, say),
    }
    for what in ("cpu_s", "work"):
        theirs = sum(one[what] for one in report["separate"].values())
        report[f"{what}_of_the_supernet_over_all_separate"] = round(report["supernet"][what] / theirs, 2)
    (folder / REPORT).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def one_alone(family: Family, name: str, costs: Costs, folder: Path, say: Say) -> dict[str, Any]:
    """Train and export one separate model; what it took and gives."""
    seeded(family.seed)
    subnet, rows = Subnet.parse(name), 0
    network = family.alone(subnet)

    def epoch(rng: np.random.Generator) -> Any:
        nonlocal rows
        made = family.epoch(rng)
        rows += sum(len(labels) for _, labels in made)
        return made

    began = time.process_time()
    with Behind(network):
        fit(network, epoch, family.separate_epochs, family.seed, family.peak)
    cpu_s = time.process_time() - began
    example = np.ascontiguousarray(family.rows(family.splits.validation)[:2])
    export(network, folder / SEPARATE / f"{name}.onnx", [example], ["x"], "logits")
    right, of = family.right(network), len(family.splits.validation)
    say(f"{name} alone: {cpu_s:.0f} s, validation {right / of:.4f}")
    return {
        "cpu_s": round(cpu_s, 3),
        "work": float(rows * costs(subnet)[1]),
        "epochs": family.separate_epochs,
        "parameters": parameters(network),
        "multiply_adds": multiply_adds(network, torch.from_numpy(example[:1])),
        "right": right,
        "of": of,
    }


def together(family: Family, costs: Costs, folder: Path, say: Say) -> dict[str, Any]:
    """Train the supernet, save it, then calibrate and search and save it again; what the training took."""
    seeded(family.seed)
    supernet = family.supernet()

    def seen(progress: Progress) -> None:
        say(
            f"{folder.name}: epoch {progress.epoch} of {progress.epochs}, "
            f"loss of the largest {progress.largest:.3f}, of the smallest {progress.smallest:.3f}"
        )

    with Behind(supernet.network):
        spent = train(
            supernet, family.epoch, family.epochs, family.seed, family.shared_peak or family.peak, seen
        )
    report = {
        "cpu_s": round(spent.cpu_s, 3),
        "work": float(sum(costs(subnet)[1] * rows for subnet, rows in spent.rows.items())),
        "epochs": family.epochs,
        "steps": spent.steps,
    }
    row = tuple(supernet.example.shape[1:])
    description = Description(family.space, family.sizes, family.classes, row, trained=report)
    save(supernet, folder, description)  # what follows can then be done again without this
    offer(family, supernet, description, folder, say)
    return report


def offer(family: Family, supernet: Supernet, description: Description, folder: Path, say: Say) -> None:
    """Calibrate and evaluate `family.most` subnets on validation data and those that have a separate twin; save them,
    and which are on the front."""
    for name in [name for name in supernet.norms if name != family.space.largest.name]:
        del supernet.norms[name]
    costs, of = Costs(family.space, family.sizes), len(family.splits.validation)
    rows = family.calibration()

    def judge(subnet: Subnet) -> tuple[int, int]:
        with Behind(supernet.network):
            calibrate(supernet, [subnet], rows)
        supernet.actuate(subnet)
        right = family.right(supernet)
        say(f"{subnet.name}: validation {right / of:.4f}")
        return right, of

    found = search(
        family.space,
        judge,
        lambda subnet: float(costs(subnet)[1]),
        np.random.default_rng(family.seed),
        family.most,
    )
    known = {m.subnet for m in found.measured}
    twins = [subnet for subnet in map(Subnet.parse, family.separate) if subnet not in known]
    measured = [*found.measured, *(Measured(s, *judge(s), float(costs(s)[1])) for s in twins)]
    offered = tuple(Offered(m.subnet, m.right, m.of, *costs(m.subnet)) for m in front(measured))
    save(supernet, folder, replace(description, offered=offered))
    how = "all" if found.exhaustive else f"predictor's error {found.error:.4f}"
    say(f"{folder.name}: {len(offered)} of {len(measured)} evaluated subnets are offered ({how})")


def recorded(family: Family, folder: Path) -> dict[str, Any]:
    """What every calibrated subnet and every separate model says of the validation and test parts, and what the file
    `training.json` says of them: the fields of `experiments.superserve.record.Scored`."""
    supernet, description = load(folder), read_description(folder)
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    costs = Costs(family.space, family.sizes)
    subnets = sorted(
        (Subnet.parse(name) for name in description.calibrated), key=lambda s: (costs(s)[1], s.name)
    )
    parts = {part: family.splits.part(part) for part in ("validation", "test")}
    rows = {part: family.rows(split) for part, split in parts.items()}
    ours: dict[str, list[Floats]] = {part: [] for part in parts}
    borrowed = []
    for subnet in subnets:
        supernet.actuate(subnet)
        for part, said in ours.items():
            said.append(probabilities(supernet, rows[part]))
        borrowed.append(said_with_borrowed(supernet, subnet, rows["test"]))
    theirs = {
        part: [said_by(folder / SEPARATE / f"{name}.onnx", rows[part]) for name in family.separate]
        for part in parts
    }
    alone = [report["separate"][name] for name in family.separate]
    return {
        "classes": family.classes,
        "subnets": tuple(subnet.name for subnet in subnets),
        "separate": family.separate,
        "offered": np.array([any(one.subnet == s for one in description.offered) for s in subnets]),
        "labels": parts["test"].labels,
        "groups": parts["test"].groups,
        "validation_labels": parts["validation"].labels,
        "validation_groups": parts["validation"].groups,
        "subnets_test": np.stack(ours["test"]),
        "subnets_validation": np.stack(ours["validation"]),
        "separate_test": np.stack(theirs["test"]),
        "separate_validation": np.stack(theirs["validation"]),
        "borrowed_test": np.stack(borrowed),
        "subnets_parameters": np.array([costs(s)[0] for s in subnets], np.int64),
        "subnets_multiply_adds": np.array([costs(s)[1] for s in subnets], np.int64),
        "separate_parameters": np.array([one["parameters"] for one in alone], np.int64),
        "separate_multiply_adds": np.array([one["multiply_adds"] for one in alone], np.int64),
        "supernet_cpu_s": report["supernet"]["cpu_s"],
        "supernet_work": report["supernet"]["work"],
        "separate_cpu_s": np.array([one["cpu_s"] for one in alone]),
        "separate_work": np.array([one["work"] for one in alone]),
    }


def said_with_borrowed(supernet: Supernet, subnet: Subnet, rows: Floats) -> NDArray[np.int8]:
    """int8 [n]: what the subnet answers with the statistics of the largest one; -1 where there are none to borrow."""
    own, largest = supernet.norms[subnet.name], supernet.norms[supernet.space.largest.name]
    if not own:
        return np.full(len(rows), -1, np.int8)
    if subnet != supernet.space.largest:
        lent = {name: tuple(whole[: len(mean)] for whole in largest[name]) for name, (mean, _) in own.items()}
        supernet.keep_norms(subnet, lent)
    supernet.actuate(subnet)
    said = probabilities(supernet, rows).argmax(1)
    supernet.keep_norms(subnet, own)
    return np.asarray(said, np.int8)


def said_by(model: Path, rows: Floats) -> Floats:
    """float32 [n, C]: the probabilities of a separate model, run from its file."""
    run, name = session(model), "x"
    said = [run.run(["logits"], {name: rows[i : i + 256]})[0] for i in range(0, len(rows), 256)]
    return np.asarray(torch.softmax(torch.from_numpy(np.concatenate(said)), 1).numpy(), np.float32)


def main(families: Mapping[str, Callable[[], Family]], home: Path, words: str) -> None:
    """The command line that the applications' supernet.py share. `families`: by the supernet's name."""
    parser = argparse.ArgumentParser(description=words, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=home)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(families)}; all if none is named")
    parser.add_argument(
        "--again", action="store_true", help="keep the weights that are there; calibrate and search anew"
    )
    given = parser.parse_args()
    for name in given.names or families:
        if name not in families:
            parser.error(f"there is no supernet {name!r}; there are {', '.join(families)}")
        family, folder = families[name](), given.out / name
        if given.again:
            offer(family, load(folder), read_description(folder), folder, _say)
        else:
            make(family, folder, _say)


def _say(text: str) -> None:
    print(text, flush=True)
