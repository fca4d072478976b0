"""Which networks can be sliced; of the others, which layer cannot and why."""

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from peekserve.errors import InvalidModel  # noqa: E402
from peekserve.supernets.extract import extract  # noqa: E402
from peekserve.supernets.networks import Attention, FeedForward  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.space import Space, Subnet  # noqa: E402

SPACE = Space("conv1d", (2, 2), (1, 1), (0.5, 1.0))
ROW = torch.randn((1, 3, 20), generator=torch.Generator().manual_seed(0))


class Step(nn.Module):
    """x + conv, in one dimension, between layers that a test may replace."""

    def __init__(self, channels: int, **settings) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, 3, padding=1, **settings)
        self.norm: nn.Module = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


class Widen(nn.Module):
    def __init__(self, wide: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(wide, out, 3, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class Given(nn.Module):
    """A network that somebody else wrote: one stage a list, the other a Sequential."""

    def __init__(self, head: nn.Module | None = None, pool: str = "mean") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv1d(3, 8, 5, padding=2)
        self.stages = nn.ModuleList(
            [nn.ModuleList([Step(8), Step(8)]), nn.Sequential(Widen(8, 12), Step(12))]
        )
        self.pool, self.head = pool, head or nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.stages[0]:
            x = block(x)
        return self.head(self.pooled(self.stages[1](x)))

    def pooled(self, x: Tensor) -> Tensor:
        if self.pool == "mean":
            return x.mean(2)
        if self.pool == "channel by channel":
            return x.flatten(1)
        if self.pool == "position by position":
            return x.transpose(1, 2).flatten(1)
        return torch.cat([x.mean(2), x.amax(2)], 1)


def test_a_network_that_somebody_else_wrote_is_sliced():
    network = Given().eval()
    whole = network(ROW)
    supernet = Supernet(network, SPACE, ROW)
    assert torch.equal(supernet(ROW), whole)
    for subnet in (SPACE.smallest, Subnet.parse("d2-1.w50"), Subnet.parse("d1-2.w100")):
        with supernet.collecting(subnet):
            supernet(torch.cat([ROW, -ROW]))
        supernet.actuate(subnet)
        alone = extract(supernet, subnet)
        assert torch.allclose(supernet(ROW), alone(ROW), rtol=0, atol=1e-6)
    assert isinstance(alone.stages[1], nn.Sequential)
    assert [len(stage) for stage in alone.stages] == [1, 2]
    assert extract(supernet, SPACE.smallest).stem.weight.shape == (4, 3, 5)


def test_positions_flattened_channel_by_channel_are_a_prefix_too():
    supernet = Supernet(Given(nn.Linear(120, 4), "channel by channel").eval(), SPACE, ROW)
    with supernet.collecting(SPACE.smallest):
        supernet(ROW)
    assert extract(supernet, SPACE.smallest).head.weight.shape == (4, 60)


@pytest.mark.parametrize(
    ("head", "pool", "layer"),
    [
        (
            lambda: nn.Linear(120, 4),
            "position by position",
            r"head \(Linear\).*the first 60.*pool over positions",
        ),
        (lambda: nn.Linear(24, 4), "means, then maxima", r"head \(Linear\).*the first 12.*side by side"),
        (
            lambda: nn.Sequential(nn.BatchNorm1d(120), nn.Linear(120, 4)),
            "position by position",
            r"head\.0 \(BatchNorm1d\).*the first 60",
        ),
        (
            lambda: nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 4)),
            "mean",
            r"head\.0 \(LayerNorm\).*fails with",
        ),
        (lambda: nn.Sequential(nn.Softmax(1), nn.Linear(12, 4)), "mean", r"head\.1 \(Linear\)"),
        (lambda: nn.LSTM(12, 4), "mean", r"head \(LSTM\).*fails with"),
    ],
)
def test_a_head_that_reads_no_prefix_is_named(head, pool: str, layer: str):
    with pytest.raises(InvalidModel, match=layer):
        Supernet(Given(head(), pool).eval(), SPACE, ROW)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: nn.Conv1d(8, 8, 3, padding=1, groups=4), r"\(Conv1d\).*4 groups"),
        (lambda: nn.Conv1d(8, 8, 3, padding=1, padding_mode="circular"), r"padding is 'circular'"),
        (lambda: nn.GroupNorm(2, 8), r"\(GroupNorm\).*neither a convolution nor a batch normalisation"),
        (lambda: nn.PReLU(8), r"\(PReLU\).*it has weights"),
        (lambda: nn.BatchNorm1d(8, track_running_stats=False), "no running statistics"),
        (lambda: nn.SyncBatchNorm(8), r"\(SyncBatchNorm\).*it has weights"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 8)), r"\.1 \(Linear\).*kernel of 1 is right"),
        (lambda: nn.LazyConv1d(8, 3), "a kind of .* that may compute something else"),
    ],
)
def test_a_layer_in_a_stage_that_cannot_be_sliced_is_named(layer, says: str):
    network = Given()
    network.stages[0][1].conv = layer()
    with pytest.raises(InvalidModel, match=rf"layer stages\.0\.1\.conv.*{says}"):
        Supernet(network, SPACE, ROW)


def test_a_block_that_changes_the_channels_cannot_be_left_out():
    network = Given()
    network.stages = nn.ModuleList(
        [nn.ModuleList([Step(8), Step(8)]), nn.Sequential(Widen(8, 10), Widen(10, 12))]
    )
    with pytest.raises(InvalidModel, match=r"head reads 10 channels and not 12.*keeps the shape"):
        Supernet(network, SPACE, ROW)


def test_a_shortcut_past_a_stage_is_refused_where_stages_may_differ_in_width():
    class Shortcut(Given):
        def forward(self, x: Tensor) -> Tensor:
            early = self.stem(x)
            for block in self.stages[0]:
                early = block(early)
            return self.head(self.stages[1](early).mean(2) + early.mean(2))

    def network() -> Given:
        made = Shortcut().eval()
        made.stages[1][0], made.stages[1][1], made.head = Widen(8, 8), Step(8), nn.Linear(8, 4)
        return made

    Supernet(network(), SPACE, ROW)
    either = Space("conv1d", (2, 2), (1, 1), (0.5, 1.0), uniform=False)
    with pytest.raises(InvalidModel, match=r"as d2-2\.w100-50 it fails with: The size of tensor"):
        Supernet(network(), either, ROW)


def test_a_network_that_names_its_blocks_one_by_one_is_refused():
    class Unrolled(Given):
        def forward(self, x: Tensor) -> Tensor:
            first, second = self.stages[0][0], self.stages[0][1]
            return self.head(self.stages[1](second(first(self.stem(x)))).mean(2))

    with pytest.raises(
        InvalidModel, match=r"stages\.0\.1\.conv ran although .* does not iterate over its stages"
    ):
        Supernet(Unrolled(), SPACE, ROW)


class Tokens(nn.Module):
    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.ModuleList(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.stages[0]:
            x = x + block(x)
        return x.mean(1)


def test_attention_and_inner_features_are_sliced_wherever_they_stand():
    space = Space("transformer", (2,), (1,), (0.5, 1.0))
    x = torch.randn((2, 5, 8), generator=torch.Generator().manual_seed(1))
    supernet = Supernet(Tokens(Attention(8, 4), FeedForward(8, 10)).eval(), space, x)
    alone = extract(supernet, Subnet.parse("d2.w50"))
    assert alone.stages[0][0].query.weight.shape == (4, 8)
    assert alone.stages[0][1].down.weight.shape == (8, 5)
    supernet.actuate("d2.w50")
    assert torch.allclose(supernet(x), alone(x), rtol=0, atol=1e-6)


def test_attention_in_one_matrix_is_refused():
    space = Space("transformer", (1,), (1,), (0.5, 1.0))
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    with pytest.raises(
        InvalidModel, match=r"self_attn \(MultiheadAttention\).*one matrix.*networks\.Attention"
    ):
        Supernet(Tokens(layer), space, torch.zeros(1, 5, 8))


def test_a_stage_with_nothing_to_narrow_is_refused_if_it_should_be():
    x = torch.zeros(1, 5, 8)
    with pytest.raises(InvalidModel, match=r"stages\.0 has nothing to narrow: no Attention"):
        Supernet(Tokens(nn.Linear(8, 8)), Space("transformer", (1,), (1,), (0.5, 1.0)), x)
    Supernet(Tokens(nn.Linear(8, 8)), Space("transformer", (1,), (1,), (1.0,)), x)


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (lambda: nn.Linear(3, 2), "Linear has no `stages`"),
        (lambda: Tokens(nn.Linear(8, 8)), r"stages of \[1\] blocks; the space says \[2, 2\]"),
    ],
)
def test_a_network_without_the_spaces_stages_is_refused(network, says: str):
    with pytest.raises(InvalidModel, match=says):
        Supernet(network(), SPACE, ROW)


def test_a_network_has_an_example_or_is_given_one():
    with pytest.raises(InvalidModel, match=r"Given has no example\(\)"):
        Supernet(Given(), SPACE)


def test_a_network_can_be_made_a_supernet_only_once():
    network = Given()
    Supernet(network, SPACE, ROW)
    with pytest.raises(InvalidModel, match=r"stages\.0 is a LayerSelect"):
        Supernet(network, SPACE, ROW)


def test_a_refused_layer_leaves_the_network_as_it_was():
    network = Given()
    network.stages[1][1].conv = nn.Conv1d(12, 12, 3, padding=1, groups=2)
    with pytest.raises(InvalidModel, match="groups"):
        Supernet(network, SPACE, ROW)
    assert type(network.stem) is nn.Conv1d
    assert type(network.stages[0]) is nn.ModuleList
