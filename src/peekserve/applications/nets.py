"""The networks of the demo applications (torch, at training time only): residual nets in one and two dimensions."""

import torch
from torch import Tensor, nn


def conv(dims: int, wide: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation, which the exporter folds into one."""
    if dims == 1:
        return nn.Sequential(
            nn.Conv1d(wide, out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm1d(out)
        )
    return nn.Sequential(
        nn.Conv2d(wide, out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(out)
    )


class Block(nn.Module):
    """relu(x + conv(relu(conv(x)))): the basic block of residual nets (He et al., CVPR 2016)."""

    def __init__(self, dims: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.first, self.second = conv(dims, width, width, kernel), conv(dims, width, width, kernel)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(torch.relu(self.first(x))))


class Residual(nn.Module):
    """Stages of blocks, each `stride` times shorter than the one before, then the mean and maximum over what is left.

    `widths[0]` is the stem's; x is [n, channels, *space], the scores [n, classes]. The pooling makes it indifferent
    to the length of its input.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        classes: int,
        widths: tuple[int, ...],
        blocks: int,
        kernel: int = 3,
        stride: int = 2,
        stem: int = 1,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv(dims, channels, widths[0], kernel, stem), nn.ReLU()]
        for i, width in enumerate(widths):
            if i:
                layers += [conv(dims, widths[i - 1], width, kernel, stride), nn.ReLU()]
            layers += [Block(dims, width, kernel) for _ in range(blocks)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * widths[-1], classes))

    def features(self, x: Tensor) -> Tensor:
        """[n, 2 * widths[-1]]: what the scores are made of."""
        seen = self.body(x).flatten(2)
        return torch.cat([seen.mean(2), seen.amax(2)], 1)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.features(x))
        return scores
