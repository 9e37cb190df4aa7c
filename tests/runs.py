"""Training runs for tests: a line with a known slope, and runs that can be stopped anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import secateur as sc
from secateur import schedules
from secateur.training import GradualPruning, History, KeepZeros, TrainingHook, finetune, rates, sgd
from tests.small import data, network, pruner, taylor

LOSS = nn.functional.cross_entropy
EPOCHS, STEPS = 4, 3
OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], Optimizer]] = {
    "sgd": sgd,
    "adamw": lambda parameters, rate: torch.optim.AdamW(parameters, lr=rate),
}
HOOKS: dict[str, Callable[[nn.Module], TrainingHook | None]] = {
    "none": lambda _: None,
    "gradual": lambda model: GradualPruning(
        model, pruner(criterion=taylor()), sc.Budget(sparsity=0.6), schedules.cubic(1, 8, 2)
    ),
    "plan": lambda model: KeepZeros(model, pruner().plan(with_dropout(), sc.Budget(sparsity=0.6))),
}
SHUFFLED = TensorDataset(*data())


def task_loader(seed: int) -> DataLoader[Any]:
    """Batches drawn at once, by a sampler in the place of the sampler, the generator deep inside."""
    order = RandomSampler(SHUFFLED, generator=torch.Generator().manual_seed(seed))
    return DataLoader(SHUFFLED, batch_size=None, sampler=BatchSampler(order, 8, drop_last=False))


def two_generators(seed: int) -> DataLoader[Any]:
    """One generator in the loader, another in the sampler of its batch sampler."""
    order = RandomSampler(SHUFFLED, generator=torch.Generator().manual_seed(seed))
    own = torch.Generator().manual_seed(seed + 1)
    return DataLoader(SHUFFLED, batch_sampler=BatchSampler(order, 8, drop_last=False), generator=own)


LOADERS: dict[str, Callable[[int], DataLoader[Any]]] = {
    "own generator": lambda seed: DataLoader(SHUFFLED, 8, shuffle=True, generator=torch.Generator().manual_seed(seed)),
    "global generator": lambda _: DataLoader(SHUFFLED, 8, shuffle=True),
    "batches at once": task_loader,
    "two generators": two_generators,
}


def with_dropout(seed: int = 0) -> nn.Sequential:
    """`network` with dropout and a batch norm, which has buffers."""
    *first, last = network(seed)
    return nn.Sequential(*first, nn.BatchNorm1d(12), nn.Dropout(0.3), last)


def batches(seed: int = 0) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(*data()), batch_size=8, shuffle=True, generator=generator)


class Line(nn.Module):
    """y = w x in double precision, w = 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


def sloping(*slopes: float) -> list[tuple[Tensor, float]]:
    """Batches of which `downhill` has these slopes, downwards."""
    return [(torch.tensor([float(slope)], dtype=torch.float64), 0.0) for slope in slopes]


def downhill(outputs: Tensor, _: Any) -> Tensor:
    return -outputs.sum()


def descend(model: nn.Module, data: Any = None, loss: Any = downhill, **more: Any) -> History:
    """Plain gradient descent at rate 1 on a slope of 1, unless told otherwise."""
    given = {"learning_rate": 1, "divide_by": 1, "epochs": 1, "optimizer": torch.optim.SGD} | more
    return finetune(model, sloping(1) if data is None else data, loss, **given)


class Settles:
    """A hook that settles after so many steps and does nothing else."""

    plan = None

    def __init__(self, after: int) -> None:
        self.after, self.count = after, 0

    @property
    def settled(self) -> bool:
        return self.count >= self.after

    def observe(self) -> None:
        """Nothing."""

    def step(self) -> None:
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def bits(tree: Any) -> Any:
    """A tree as something that `==` compares bit by bit."""
    if isinstance(tree, Tensor):
        return tree.dtype, tuple(tree.shape), tree.detach().reshape(-1).view(torch.uint8).tolist()
    if isinstance(tree, dict):
        return {key: bits(value) for key, value in tree.items()}
    return [bits(value) for value in tree] if isinstance(tree, list | tuple) else repr(tree)


class Stop(Exception):  # noqa: N818  not an error: the end of a run, at the will of a test
    """Raised to end a run early."""


class Training:
    """One process, as it were: fresh objects, and a run that may be stopped at a step."""

    def __init__(self, optimizer: str = "sgd", hook: str = "none", loader: str = "own generator", seed: int = 6):
        self.model = with_dropout(seed=seed)  # a run that is gone on with does not depend on its weights
        self.hook, self.kind = HOOKS[hook](self.model), OPTIMIZERS[optimizer]
        self.loader: Iterable[Any] = LOADERS[loader](3)
        self.loss: Callable[[Tensor, Any], Tensor] = LOSS
        self.optimizers: list[Optimizer] = []
        self.steps = 0
        torch.manual_seed(seed)

    def _built(self, parameters: list[nn.Parameter], rate: float) -> Optimizer:
        self.optimizers.append(self.kind(parameters, rate))
        return self.optimizers[-1]

    def run(
        self, *, stop: int | None = None, error: type[BaseException] = Stop, epochs: int = EPOCHS, **more: Any
    ) -> History:
        """Train; `stop` says in which step the data give out."""

        def loss(outputs: Tensor, labels: Any) -> Tensor:
            if self.steps == stop:
                raise error
            self.steps += 1
            return self.loss(outputs, labels)

        def validate(model: nn.Module) -> float:
            torch.rand(1)  # draws from the global generator, too
            return -float(LOSS(model(data(seed=2)[0]), data(seed=2)[1]))

        given = {"hook": self.hook, "validate": validate, "optimizer": self._built, "rate": rates.cosine(EPOCHS)} | more
        return finetune(self.model, self.loader, loss, learning_rate=0.5, epochs=epochs, **given)

    def bits(self) -> Any:
        """All that a run leaves."""
        hook = None if self.hook is None else self.hook.state_dict()
        state = [self.model.state_dict(), self.optimizers[-1].state_dict(), hook, torch.get_rng_state()]
        return bits([*state, [batch for batch, _ in zip(self.loader, range(2), strict=False)]])
