"""Greedy channel selection by what the next layer loses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from secateur.errors import SecateurError
from secateur.plan import Plan
from secateur.pruner import Selection
from secateur.recipe import Recipe
from secateur.reconstruction.in_turn import Choice, Settings, choose_in_turn
from secateur.reconstruction.observe import Reading
from secateur.reconstruction.responses import responses
from secateur.reconstruction.sampling import Sampling
from secateur.reconstruction.solve import fitted, solved
from secateur.units import Units, select

Fit = Literal["scales", "weights"]


def thinet(
    points: int | None = 10,
    *,
    fit: Fit = "weights",
    branches: bool = True,
    damping: float = 0.0,
    seed: int = 0,
) -> Selection:
    """Choose the channels that the next layer misses least, one after another, and fit its weights anew.

    With `z_u` what unit u contributes to the outputs of the layer that reads it, over sampled points, the set T of
    units that leave grows by the one for which

    `sum over points and outputs of (sum over u in T of z_u)^2`

    grows least. It only needs the products `z_u . z_v`, so a step costs as many operations as there are units. Then
    least squares over what stays: of a factor for each unit, as in the paper, or of all weights. Layers, groups that
    several layers read, norms, residual branches and granularities are treated as in `lasso`.

    Args:
        points: Output positions of each sample that are looked at, with all their channels; None: all.
        fit: What least squares finds: `"scales"` of units, or `"weights"`, of which there are more and whose error is
            never larger.
        branches: Whether residual branches make up for their shortcuts.
        damping: Of the least squares, relative to the mean square of each input; for few data.
        seed: Of the points.

    Returns:
        Selection: a method for `Pruner`, which then needs data.

    Raises:
        SecateurError: There is no such fit, or a number is out of range.

    Shapes:
        At P points, with n units: each z `(P, O)`, their products `(n, n)`, the scales `(n,)`.

    Reference:
        Luo, Wu, Lin (2017), ThiNet: A Filter Level Pruning Method for Deep Neural Network Compression,
        algorithm 1 and equation 7.

    Example:
        The second hidden neuron adds nothing to the output, and goes first:

        >>> from secateur import allocation, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
        >>> _ = net[0].weight.data.copy_(torch.eye(2))
        >>> _ = net[1].weight.data.copy_(torch.tensor([[1.0, 0.0]]))
        >>> x = torch.tensor([[1.0, 5.0], [2.0, 3.0], [3.0, 4.0]])
        >>> pruner = Pruner(thinet(), granularity.channel(x), allocation.uniform())
        >>> pruner.plan(net, Budget(sparsity=0.5), data=[(x, None)])["0"].keep.tolist()
        [True, False]
    """
    if fit not in ("scales", "weights"):
        raise SecateurError(f'thinet fits "scales" or "weights"; given: {fit!r}')
    settings = Settings("thinet", Sampling(points, seed), damping, branches)
    more = "".join(
        f", {name}={value!r}"
        for name, value, default in (("fit", fit, "weights"), ("branches", branches, True), ("damping", damping, 0.0))
        if value != default
    )
    return Recipe(f"thinet(points={points}{more})", partial(_plan, settings=settings, fit=fit))


def _plan(
    model: nn.Module,
    units: Mapping[str, Units],
    sparsities: Mapping[str, float],
    data: Iterable[Any],
    *,
    settings: Settings,
    fit: Fit,
) -> Plan:
    mend = partial(_weights if fit == "weights" else _scales, damping=settings.damping)
    return choose_in_turn(model, units, sparsities, data, choose=_choose, mend=mend, settings=settings, start=0.0)


def _choose(choice: Choice, start: float) -> tuple[Tensor, float]:
    gram = responses(choice.readings, choice.columns, choice.units.n_units, centred=False).gram
    scores = torch.empty(choice.units.n_units, dtype=torch.float64)
    scores[greedy(gram)] = torch.arange(choice.units.n_units, dtype=torch.float64)
    return select(choice.units, scores, choice.sparsity), start


def greedy(gram: Tensor) -> Tensor:
    """The order in which units leave, each time the one for which `|sum of what has left|^2` is smallest.

    Args:
        gram: Products of contributions, `(units, units)`.

    Returns:
        int64, `(units,)`: of equal ones the first comes first.

    Example:
        Contributions 2, -2 and 1 to a single output. The 1 goes first; then 2 makes 3 and -2 makes -1:

        >>> z = torch.tensor([2.0, -2.0, 1.0])
        >>> greedy(z[:, None] * z)
        tensor([2, 1, 0])
    """
    gram = gram.cpu()
    left = torch.ones(len(gram), dtype=torch.bool)
    together = torch.zeros_like(gram[0])  # products with the sum of what has left
    order = []
    for _ in range(len(gram)):
        growth = (gram.diagonal() + 2 * together).masked_fill(~left, torch.inf)
        one = int(growth.argmin())
        left[one] = False
        together += gram[one]
        order.append(one)
    return torch.tensor(order)


def _weights(reading: Reading, keep: Tensor, _: list[Tensor], *, damping: float) -> tuple[Tensor, bool]:
    return fitted(reading.fit, reading.weight, keep, damping=damping)


def _scales(reading: Reading, _: Tensor, columns: list[Tensor], *, damping: float) -> tuple[Tensor, bool]:
    """One factor for all weights that read a unit; those of units that have left are zero already."""
    owner, count = torch.full_like(columns[0], -1), 0
    for units in columns:
        owner = torch.where(units >= 0, units + count, owner)
        count = int(owner.max()) + 1
    found = responses([reading], [owner], count)
    change, singular = solved(found.gram, (found.target - found.gram.sum(1))[:, None], damping)
    factors = torch.cat([1 + change[:, 0], change.new_ones(1)])[owner.to(change.device)]
    return reading.weight * factors[..., None], singular
