"""What a zoo of models holds in memory: the subnets of one supernet against models of their own of the same sizes.

Every line of the table is a worker process of its own, started for it: what it holds before the first load is that of
an empty worker, and what it holds after every model was loaded and ran its batches, less that, is its growth. Both are
read from the system (/proc), where pages that are mapped count once for a process. Weights of models of their own are
what an exporter writes for the extracted subnet: the sizes are the same, only nothing is shared.

    for held in measure(Path("wide"), Path("/tmp/work")):
        print(held)
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from peekserve.domain.application import Variant
from peekserve.domain.tensors import InputMap, OutputForm, OutputMap, TensorSpec
from peekserve.errors import InvalidData
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.supernets import packed
from peekserve.supernets.export import INPUT, OUTPUT, export, export_alone
from peekserve.supernets.extract import extract
from peekserve.supernets.prefixes import WORTH
from peekserve.supernets.space import Subnet
from peekserve.supernets.storage import WEIGHTS, load, read_description, write_description
from peekserve.workers.remote import RemoteRuntime
from peekserve.workers.slots import Slot

SPREAD = 6  # models of their own that a zoo has, as in the paper's figure (section 6.1)
# Mode -> runtime, and which of the graphs.
MODES = {
    "subnets, ONNX Runtime": ("onnx", "copies"),
    "subnets, ONNX Runtime, one copy": ("onnx", "one copy"),
    "subnets, torch in place": ("elastic", "copies"),
    "separate models, ONNX Runtime": ("onnx", "alone"),
}
BATCHES = (1, 16)  # rows of the batches that every model runs before memory is read


@dataclass(frozen=True, slots=True)
class Footprint:
    """One line. `mode`: how the models are kept. `weights_bytes`: of all weights and statistics that had to be read.
    `growth_bytes`: of the worker's resident memory. `own_bytes`: the part of it that no file backs. `empty_bytes`: of
    a worker of this runtime before its first load. `one_more_bytes`: growth for each model beyond the first few, None
    where it was not measured."""

    mode: str
    models: int
    weights_bytes: int
    growth_bytes: int
    own_bytes: int
    empty_bytes: int
    one_more_bytes: float | None = None


def spread(subnets: Sequence[Subnet], sizes: Sequence[int], count: int = SPREAD) -> tuple[Subnet, ...]:
    """`count` of the subnets whose sizes lie nearest to an even ladder from the smallest to the largest, each once."""
    if len(subnets) < count:
        raise InvalidData(f"{count} spread models are asked of {len(subnets)} subnets")
    left = sorted(range(len(subnets)), key=lambda i: (sizes[i], subnets[i].name))
    rungs = np.linspace(sizes[left[0]], sizes[left[-1]], count)
    chosen = []
    for rung in (rungs[0], *rungs[:0:-1]):  # both ends first: they are the ladder's
        nearest = min(left, key=lambda i: abs(sizes[i] - rung))
        left.remove(nearest)
        chosen.append(nearest)
    return tuple(subnets[i] for i in sorted(chosen, key=lambda i: sizes[i]))


def measure(
    folder: Path, work: Path, modes: Sequence[str] = tuple(MODES), budget_bytes: int = 8 << 30
) -> list[Footprint]:
    """The table of the supernet in `folder`, for the subnets that it offers: two lines for each mode, of six spread
    models and of all. Graphs are written below `work`.

    Raises what `storage.load` does, and InvalidData where fewer than six subnets are on offer.
    """
    description = read_description(folder)
    subnets = [one.subnet for one in description.offered]
    few = spread(subnets, [one.parameters for one in description.offered])
    supernet = load(folder)
    for name, which in product(("copies", "one copy"), (subnets, few)):
        target = work / name / str(len(which))
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / WEIGHTS, target / WEIGHTS)
        offered = tuple(one for one in description.offered if one.subnet in which)
        write_description(target, replace(description, offered=offered))
        export(supernet, which, target, take_apart=WORTH if name == "one copy" else None)
    for subnet in subnets:
        export_alone(extract(supernet, subnet), supernet.example, work / "alone" / f"{subnet.name}.onnx")
    del supernet
    meter = _Meter(description.row, len(description.classes), budget_bytes)
    lines = []
    for mode in modes:
        runtime, name = MODES[mode]
        less, more = (
            meter.held(mode, runtime, [_variant(work / name, one, len(which)) for one in which])
            for which in (few, subnets)
        )
        lines += [less, _with_one_more(more, less)]
    return lines


class _Meter:
    def __init__(self, row: tuple[int, ...], classes: int, budget_bytes: int) -> None:
        self._spec = TensorSpec("signal", "FP32", row)
        self._classes = classes
        self._budget_bytes = budget_bytes

    def held(self, mode: str, runtime: str, variants: Sequence[Variant]) -> Footprint:
        rng = np.random.default_rng(0)
        slot = Slot("memory", budget_bytes=self._budget_bytes, runtime=RuntimeSpec(runtime))
        with RemoteRuntime(slot, (self._spec,)) as worker:
            empty, empty_own = resident(worker.pid)
            for weights in dict.fromkeys(v.weights for v in variants):
                worker.load(next(v for v in variants if v.weights == weights), self._classes)
            for rows in BATCHES:
                batch = {"signal": rng.standard_normal((rows, *self._spec.shape), np.float32)}
                for variant in variants:
                    worker.run(variant, self._classes, batch)
            full, own = resident(worker.pid)
        read = sum(
            file.stat().st_size for file in dict.fromkeys(f for v in variants for f in _files(v, runtime))
        )
        return Footprint(mode, len(variants), read, full - empty, own - empty_own, empty)


def resident(pid: int) -> tuple[int, int]:
    """Bytes of a process that are in memory, and the part of them that belongs to no file. InvalidData where the
    system does not tell."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError as error:
        raise InvalidData(f"the memory of process {pid} cannot be read: {error.strerror}") from error
    found = {line.split(":")[0]: line.split()[1] for line in text.splitlines()[1:]}
    return int(found["Rss"]) * 1024, int(found["Anonymous"]) * 1024


def _with_one_more(more: Footprint, less: Footprint) -> Footprint:
    if more.models == less.models:
        return more
    return replace(more, one_more_bytes=(more.growth_bytes - less.growth_bytes) / (more.models - less.models))


def _files(variant: Variant, runtime: str) -> list[Path]:
    """What has to be read for it."""
    if not variant.subnet:
        return [Path(variant.model)]
    folder = Path(variant.model)
    if runtime == "elastic":
        return [folder / WEIGHTS]
    return [packed.weights_of(folder), *packed.graphs(folder).values()]


def _variant(place: Path, subnet: Subnet, together: int) -> Variant:
    """A subnet of the folder of so many, or a model of its own."""
    alone = place.name == "alone"
    model = str(place / (f"{subnet.name}.onnx" if alone else str(together)))
    return Variant(
        name=subnet.name,
        revision=model,
        weights=model,
        inputs=(InputMap("signal", INPUT),),
        output=OutputMap(OUTPUT, OutputForm.LOGITS),
        model=model,
        max_batch=max(BATCHES),
        subnet="" if alone else subnet.name,
    )
