"""One set of weights computes as any of its subnets, exactly as each would alone."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from peekserve.errors import InvalidConfiguration, InvalidModel  # noqa: E402
from peekserve.supernets.extract import extract  # noqa: E402
from peekserve.supernets.operators import SubnetNorm, Supernet, WeightSlice  # noqa: E402
from peekserve.supernets.space import Subnet  # noqa: E402
from tests.supernets.nets import SPACES, a_network, a_supernet, rows_of  # noqa: E402

ARCHITECTURES = list(SPACES)
SMALL = {name: space.smallest for name, space in SPACES.items()}


def drawn(architecture: str, count: int, seed: int = 0) -> list[Subnet]:
    rng = np.random.default_rng(seed)
    return [SPACES[architecture].sample(rng) for _ in range(count)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_largest_subnet_is_the_plain_network_bit_for_bit(architecture: str):
    network = a_network(architecture)
    plain = copy.deepcopy(network)
    supernet = Supernet(network, SPACES[architecture])
    supernet.actuate(SPACES[architecture].largest)
    for rows in (1, 5, 32):
        x = rows_of(architecture, rows)
        assert torch.equal(supernet(x), plain(x))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_subnet_is_its_extracted_copy(architecture: str):
    subnets = [SMALL[architecture], *drawn(architecture, 7), SPACES[architecture].largest]
    supernet = a_supernet(architecture, subnets)
    for subnet in subnets:
        alone = extract(supernet, subnet)
        supernet.actuate(subnet)
        for rows in (1, 9):
            x = rows_of(architecture, rows)
            # Not bit for bit: a matrix product may add up in another order where rows of weights lie further apart.
            assert torch.allclose(supernet(x), alone(x), rtol=0, atol=1e-5), subnet.name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_extracted_copy_is_plain_small_and_its_own(architecture: str):
    supernet = a_supernet(architecture, [SMALL[architecture]])
    alone = extract(supernet, SMALL[architecture])
    assert not any(isinstance(layer, (WeightSlice, SubnetNorm)) for layer in alone.modules())
    of_alone, of_all = (sum(p.numel() for p in net.parameters()) for net in (alone, supernet))
    assert of_alone < of_all / 2
    supernet.actuate(SMALL[architecture])
    x = rows_of(architecture, 3)
    before = supernet(x)
    with torch.no_grad():
        for parameter in alone.parameters():
            parameter.zero_()
    assert torch.equal(supernet(x), before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_weight_that_a_subnet_computes_with_lies_in_the_full_parameters(architecture: str):
    subnets = drawn(architecture, 8)
    supernet = a_supernet(architecture, subnets)
    owned = {parameter.untyped_storage().data_ptr() for parameter in supernet.parameters()}
    for subnet in subnets:
        record = supernet.prepare(subnet)
        for operator in supernet.operators.values():
            held = record.held[operator.place]
            weights = [] if held is None else held[-2:]
            assert all(part.untyped_storage().data_ptr() in owned for part in weights if part is not None)


class Counted(TorchDispatchMode):
    """Counts what torch is asked to do: memory of its own is had in no other way."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_actuation_asks_torch_for_nothing(architecture: str):
    subnets = drawn(architecture, 6)
    supernet = a_supernet(architecture, subnets)
    for subnet in subnets:
        supernet.prepare(subnet)
    weights = {name: parameter.data_ptr() for name, parameter in supernet.named_parameters()}
    with Counted() as counted:
        for subnet in subnets * 2:
            supernet.actuate(subnet)
    assert counted.calls == 0
    assert {name: parameter.data_ptr() for name, parameter in supernet.named_parameters()} == weights
    with counted:
        supernet(rows_of(architecture, 1))
    assert counted.calls > 0


def test_a_subnet_is_prepared_once_and_found_by_its_name_too():
    supernet = a_supernet("conv1d", [SMALL["conv1d"]])
    record = supernet.prepare(SMALL["conv1d"])
    supernet.actuate(SMALL["conv1d"].name)
    assert supernet.switch.record is record
    assert supernet.prepare(SMALL["conv1d"]) is record
    assert supernet.actuated == SMALL["conv1d"]


def test_without_its_own_statistics_a_subnet_computes_something_else():
    supernet = a_supernet("conv1d", [SMALL["conv1d"]])
    x = rows_of("conv1d", 9)
    supernet.actuate(SMALL["conv1d"])
    right = supernet(x)
    supernet.switch.record = supernet.without_norms(SMALL["conv1d"])
    assert not torch.allclose(supernet(x), right, atol=0.05)


def test_collected_statistics_are_means_over_batches_weighted_by_rows():
    supernet = a_supernet("conv2d")
    batches = [rows_of("conv2d", 3, seed=3), rows_of("conv2d", 9, seed=4)]
    read = []
    supernet.operators["stem.norm"].register_forward_pre_hook(lambda layer, given: read.append(given[0]))
    with supernet.collecting(SMALL["conv2d"]):
        for batch in batches:
            supernet(batch)
    mean, var = supernet.norms[SMALL["conv2d"].name]["stem.norm"]
    means = [x.mean((0, 2, 3)) for x in read]
    variances = [x.var((0, 2, 3), correction=0) for x in read]
    assert torch.allclose(mean, 0.25 * means[0] + 0.75 * means[1], atol=1e-6)
    assert torch.allclose(var, 0.25 * variances[0] + 0.75 * variances[1], atol=1e-6)


def test_the_largest_subnets_statistics_are_the_plain_networks_own():
    supernet = a_supernet("conv1d")
    largest = SPACES["conv1d"].largest
    with supernet.collecting(largest):
        supernet(rows_of("conv1d", 40, seed=5))
    mean, _ = supernet.norms[largest.name]["stem.norm"]
    assert mean is supernet.network.stem.norm.running_mean
    alone = extract(supernet, largest)
    x = rows_of("conv1d", 4)
    assert torch.equal(supernet(x), alone(x))


def test_a_transformer_needs_no_statistics():
    supernet = a_supernet("transformer")
    supernet.actuate(SMALL["transformer"])
    assert supernet(rows_of("transformer", 2)).shape == (2, 4)


def test_a_subnet_without_statistics_is_refused_and_the_one_before_stays():
    supernet = a_supernet("conv1d", [SMALL["conv1d"]])
    supernet.actuate(SMALL["conv1d"])
    with pytest.raises(
        InvalidModel, match=r"d2-3\.w25, layer stem\.norm: statistics missing: calibrate first"
    ):
        supernet.actuate("d2-3.w25")
    assert supernet.actuated == SMALL["conv1d"]
    assert supernet(rows_of("conv1d", 1)).shape == (1, 5)


def test_in_training_a_subnet_needs_no_statistics_but_evaluation_then_does():
    supernet = a_supernet("conv1d").train()
    supernet.actuate(SMALL["conv1d"])
    assert supernet(rows_of("conv1d", 4)).shape == (4, 5)
    supernet.eval()
    with pytest.raises(InvalidModel, match="statistics missing"):
        supernet(rows_of("conv1d", 4))


def test_statistics_of_another_width_are_refused():
    supernet = a_supernet("conv1d", [Subnet.parse("d1-1.w50")])
    supernet.keep_norms(SMALL["conv1d"], supernet.norms["d1-1.w50"])
    with pytest.raises(
        InvalidModel, match=r"stem\.norm: its mean has shape \[4\]; the subnet has 2 channels"
    ):
        supernet.actuate(SMALL["conv1d"])


def test_statistics_of_layers_that_are_not_there_are_refused():
    supernet = a_supernet("conv1d")
    with pytest.raises(InvalidModel, match="no layers to normalise"):
        supernet.keep_norms(SMALL["conv1d"], {"stem.conv": (torch.zeros(2), torch.ones(2))})


def test_collecting_over_nothing_is_an_error():
    supernet = a_supernet("conv1d")
    with pytest.raises(InvalidModel, match="nothing ran"), supernet.collecting(SMALL["conv1d"]):
        pass


def test_a_subnet_outside_the_space_is_refused_by_its_stage():
    supernet = a_supernet("conv1d")
    with pytest.raises(InvalidConfiguration, match="stage 1 cannot run 9 blocks, only 1 to 3"):
        supernet.actuate("d1-9.w50")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_a_subnet_moves_the_weights_that_it_uses_and_no_others(architecture: str):
    supernet = a_supernet(architecture).train()
    small = SMALL[architecture]
    supernet.actuate(small)
    supernet(rows_of(architecture, 8)).square().sum().backward()
    for name, operator in supernet.operators.items():
        gradient = operator.weight.grad
        if gradient is None:  # in a block that the subnet leaves out
            continue
        supernet.eval()
        with supernet.collecting(small):
            supernet(rows_of(architecture, 8))
        held = supernet.prepare(small).held[operator.place][-2]
        supernet.train()
        used = tuple(slice(0, n) for n in held.shape)
        outside = gradient.clone()
        outside[used] = 0
        assert not outside.any(), name
    assert any(operator.weight.grad is None for operator in supernet.operators.values())


def test_a_prepared_subnet_sees_what_training_changed():
    small = SMALL["conv1d"]
    supernet = a_supernet("conv1d", [small])
    supernet.actuate(small)
    with torch.no_grad():
        supernet.network.head.bias.add_(1.0)
    x = rows_of("conv1d", 3)
    assert torch.equal(supernet(x), extract(supernet, small)(x))


def test_training_moves_the_running_statistics_by_the_largest_subnet_alone():
    supernet = a_supernet("conv1d").train()
    mean = supernet.network.stem.norm.running_mean
    before = mean.clone()
    supernet.actuate(SMALL["conv1d"])
    supernet(rows_of("conv1d", 4))
    assert torch.equal(mean, before)
    supernet.actuate(SPACES["conv1d"].largest)
    supernet(rows_of("conv1d", 4))
    assert not torch.equal(mean, before)


def test_a_supernet_that_was_cast_prepares_its_subnets_anew():
    small = SMALL["conv1d"]
    supernet = a_supernet("conv1d", [small])
    supernet.actuate(small)
    x = rows_of("conv1d", 3)
    single = supernet(x)
    supernet.double()
    supernet.example = supernet.example.double()
    supernet.actuate(small)
    assert supernet(x.double()).dtype == torch.float64
    assert torch.allclose(supernet(x.double()).float(), single, atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_weights_keep_their_names_and_identity(architecture: str):
    network = a_network(architecture)
    names, parameters = list(network.state_dict()), {id(parameter) for parameter in network.parameters()}
    supernet = Supernet(network, SPACES[architecture])
    assert list(supernet.network.state_dict()) == names
    assert {id(parameter) for parameter in supernet.parameters()} == parameters
