"""Small networks and data for tests of reconstruction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, granularity


class Residual(nn.Module):
    """A stem, two residual blocks, the second one with a projection, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv1, self.bn1 = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv3, self.bn3 = nn.Conv2d(6, 8, 3, 2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv4, self.bn4 = nn.Conv2d(8, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.short, self.bns = nn.Conv2d(6, 5, 1, 2, bias=False), nn.BatchNorm2d(5)
        self.fc = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + x)
        branch = self.bn4(self.conv4(torch.relu(self.bn3(self.conv3(x)))))
        x = torch.relu(branch + self.bns(self.short(x)))
        return torch.as_tensor(self.fc(x.mean((2, 3))))


class Stack(nn.Module):
    """Four residual blocks on one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.outer = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = x + outer(torch.relu(inner(x)))
        return x


class Plain(nn.Sequential):
    """Two convolutions, the second without a bias before a norm, then a linear layer behind a flatten."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.Conv2d(6, 5, 3, stride=2, bias=False),
            nn.BatchNorm2d(5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(20, 4),
        )


def built(kind: Any, seed: int = 0) -> Any:
    """A network whose norms have seen data, so that none of their numbers is 0 or 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return model.eval()


def batches(count: int = 4, size: int = 16, space: int = 7, seed: int = 1) -> list[tuple[Tensor, None]]:
    """Images whose pixels go together."""
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(size, 3, space, space, generator=draw).cumsum(-1), None) for _ in range(count)]


def plan_of(model: nn.Module, method: Any, sparsity: float = 0.5, **how: Any) -> sc.Plan:
    """A plan for coupled channels, each group losing as much."""
    data = how.pop("data", None) or batches()
    grain = how.pop("grain", None) or granularity.channel(data[0][0][:2])
    pruner = sc.Pruner(method, grain, allocation.uniform(), **how)
    return pruner.plan(model, sc.Budget(sparsity=sparsity), data=data)


def first_units() -> sc.Criterion:
    """The baseline that keeps the first units."""
    return sc.Criterion("first units", lambda group: -torch.arange(float(group.units.n_units)))


def outputs(model: nn.Module, data: list[tuple[Tensor, None]]) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(x) for x, _ in data])


def difference(model: nn.Module, other: nn.Module, data: list[tuple[Tensor, None]]) -> float:
    """Mean squared difference of two models' outputs."""
    return float((outputs(model, data) - outputs(other, data)).square().mean())
