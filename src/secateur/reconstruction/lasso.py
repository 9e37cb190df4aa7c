"""Channel selection by LASSO regression, and reconstruction by least squares."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import SecateurError
from secateur.plan import Plan
from secateur.pruner import Selection
from secateur.recipe import Recipe
from secateur.reconstruction.in_turn import Choice, Settings, choose_in_turn
from secateur.reconstruction.observe import Reading
from secateur.reconstruction.responses import Responses, responses
from secateur.reconstruction.sampling import Sampling
from secateur.reconstruction.solve import fitted
from secateur.units import Units, removed_units, select

FIRST_STRENGTH = 1e-3
SLACK = 0.1  # so many more than wanted may have a coefficient; the largest of them stay
HALVINGS = 40
TWINS = 1 - 1e-8  # squared correlation of responses that are multiples of each other


def lasso(
    points: int | None = 10, *, steps: int = 1, branches: bool = True, damping: float = 0.0, seed: int = 0
) -> Selection:
    """Choose the channels whose responses a sparse regression needs, and fit the weights that read them anew.

    For every layer that reads a group's units, with inputs X from the model as it is pruned so far and outputs Y of the
    whole model, both at sampled points:

    `min over beta of 1/2 |Y - sum_u beta_u X_u W_u|^2 / |Y|^2 + strength |beta|_1`

    The strength doubles until fewer than the wanted c units have a coefficient, and is bisected until c to 1.1 c have
    one; the c largest stay. It is where the search for the next layer begins. Then `min over W' |Y - X W' - b|^2` over
    the units that stay, which is one linear system. Layers come in the order in which they run.

    A unit of several channels is one coefficient, and of units whose responses are multiples of each other one has one.
    Where several layers read one group, such as a residual stream, their regressions are stacked, each in parts of its
    own `|Y|^2`. A batch norm right behind a layer is part of its output: its scale weighs the outputs, and the constant
    b goes into its mean where the layer has no bias. The last layer of a residual branch also makes up for what its
    shortcut has lost: its Y is what the sum of both has to be.

    With `granularity.channel(example)` units leave the whole model; with `granularity.input_channel()` every layer
    samples its inputs by itself, as the first convolution of a residual block does in the paper.

    All of it is computed from sums of products over the points (`columns^2` numbers for a layer), so memory does not
    grow with the data, and the regression uses all points rather than a part of them. Each layer takes two passes over
    the data, one to choose and one to fit.

    Args:
        points: Output positions of each sample that are looked at; None: all.
        steps: In how many steps the units of a group leave, with new weights from the ones that are left after each:
            the alternation of the paper. Its authors' code takes one.
        branches: Whether residual branches make up for their shortcuts.
        damping: Of the least squares, relative to the mean square of each input; for few data.
        seed: Of the points and of the order of coordinates.

    Returns:
        Selection: a method for `Pruner`, which then needs data.

    Raises:
        SecateurError: A number is out of range.

    Shapes:
        At P points, with n units of d columns: X `(P, n d)`, W `(n d, O)`, Y `(P, O)`, beta `(n,)`.

    Reference:
        He, Zhang, Sun (2017), Channel Pruning for Accelerating Very Deep Neural Networks.

    Example:
        The first two hidden neurons are copies; one of them is enough, and nothing is lost:

        >>> from secateur import allocation, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> _ = net[0].weight.data.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        >>> _ = nn.init.zeros_(net[0].bias)
        >>> _ = net[2].weight.data.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> x = torch.tensor([[1.0, 2.0], [2.0, 1.0], [3.0, 5.0], [1.0, 1.0]])
        >>> pruner = Pruner(lasso(), granularity.channel(x), allocation.uniform())
        >>> plan = pruner.plan(net, Budget(sparsity=1 / 3), data=[(x, None)])
        >>> plan["0"].keep.tolist(), [round(w, 2) for w in plan.updates["2.weight"][0].tolist()]
        ([True, False, True], [3.0, 0.0, 3.0])
    """
    if steps < 1:
        raise SecateurError(f"lasso takes the units out in at least one step; given: {steps}")
    settings = Settings("lasso", Sampling(points, seed), damping, branches)
    more = "".join(
        f", {name}={value}"
        for name, value, default in (("steps", steps, 1), ("branches", branches, True), ("damping", damping, 0.0))
        if value != default
    )
    return Recipe(f"lasso(points={points}{more})", partial(_plan, settings=settings, steps=steps))


def _plan(
    model: nn.Module,
    units: Mapping[str, Units],
    sparsities: Mapping[str, float],
    data: Iterable[Any],
    *,
    settings: Settings,
    steps: int,
) -> Plan:
    return choose_in_turn(
        model,
        units,
        sparsities,
        data,
        choose=partial(_choose, steps=steps, settings=settings),
        mend=partial(_mend, damping=settings.damping),
        settings=settings,
        start=FIRST_STRENGTH,
    )


def _mend(reading: Reading, keep: Tensor, _: list[Tensor], *, damping: float) -> tuple[Tensor, bool]:
    return fitted(reading.fit, reading.weight, keep, damping=damping)


def _choose(choice: Choice, start: float, *, steps: int, settings: Settings) -> tuple[Tensor, float]:
    units, readings = choice.units, list(choice.readings)
    keep = torch.ones(units.n_units, dtype=torch.bool)
    for step in range(1, steps + 1):
        sparsity = choice.sparsity * step / steps
        found = responses(readings, choice.columns, units.n_units)
        beta, start = sparse_coefficients(
            found, units.n_units - removed_units(units, sparsity), start, seed=settings.sampling.seed
        )
        keep = select(units, _scores(beta, found), sparsity).cpu()
        if step < steps:
            readings = [_refitted(one, of, keep, settings) for one, of in zip(readings, choice.columns, strict=True)]
    return keep, start


def _refitted(reading: Reading, columns: Tensor, keep: Tensor, settings: Settings) -> Reading:
    """The same points, with weights fitted anew to the units that are left."""
    stays = torch.cat([keep, torch.ones(1, dtype=torch.bool)])[columns]  # -1 is the last
    mask = stays[..., None].to(reading.weight.device).expand_as(reading.weight) & (reading.scale != 0)[:, None]
    weight, _ = fitted(reading.fit, reading.weight * mask, mask, damping=settings.damping)
    return replace(reading, weight=weight)


def _scores(beta: Tensor, found: Responses) -> Tensor:
    """Sizes of coefficients; of units without one those stay first whose responses are large."""
    energy = found.gram.diagonal()
    return torch.where(beta != 0, beta.abs(), -1 / (1 + energy))


def sparse_coefficients(found: Responses, wanted: int, start: float, *, seed: int = 0) -> tuple[Tensor, float]:
    """Search the strength of the penalty at which the wanted number of units has a coefficient, or up to a tenth more.

    Args:
        found: The regression.
        wanted: How many.
        start: First strength.
        seed: Of the order of coordinates.

    Returns:
        `(units,)`, and the strength that was taken, or `start` where there was nothing to search.
    """
    alive = _distinct(found.gram)
    if int(alive.sum()) <= wanted:
        return alive.to(found.target), start
    solve = _Lasso(found, alive, seed)
    high = start
    beta = solve(high)
    while _count(beta) >= wanted and _count(beta):
        high, beta = 2 * high, solve(2 * high)
    low, taken, best = 0.0, high, beta
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beta = solve(middle)
        if _count(beta) < wanted:
            high = middle
            continue
        low, taken, best = middle, middle, beta
        if _count(beta) <= (1 + SLACK) * wanted:
            break
    return best, taken


def _distinct(gram: Tensor) -> Tensor:
    """Units with a response, but for those whose response is a multiple of an earlier one's."""
    # Between such twins a sparse regression has no preference, and descent from nearby would keep a part of each.
    size = gram.diagonal()
    squared = gram.square() / (size[:, None] * size).clamp(min=torch.finfo(gram.dtype).tiny)
    return (size > 0) & ~(squared > TWINS).triu(1).any(0)


def _count(beta: Tensor) -> int:
    return int(torch.count_nonzero(beta))


class _Lasso:
    """scikit-learn's coordinate descent, started where the last strength ended."""

    def __init__(self, found: Responses, alive: Tensor, seed: int) -> None:
        from sklearn.linear_model import Lasso  # noqa: PLC0415  a second to import, for one method

        self._alive = alive
        # Any R, r with R'R = Z'Z and R'r = Z'y give the same regression, in as many rows as there are units.
        values, vectors = torch.linalg.eigh(found.gram[alive][:, alive].cpu())
        held = values > values.max() * 1e-14
        root = values[held].sqrt()
        rows = max(1, int(held.sum())) ** 0.5  # scikit-learn divides by the number of rows
        self._matrix = (vectors[:, held] * root).T.contiguous().numpy() * rows
        self._target = ((vectors[:, held].T @ found.target[alive].cpu()) / root).numpy() * rows
        self._model = Lasso(
            fit_intercept=False, warm_start=True, selection="random", random_state=seed, max_iter=5_000, tol=1e-9
        )

    def __call__(self, strength: float) -> Tensor:
        self._model.set_params(alpha=strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the search needs to know which are zero, not the last digit
            self._model.fit(self._matrix, self._target)
        beta = torch.zeros(len(self._alive), dtype=torch.float64, device=self._alive.device)
        beta[self._alive] = torch.from_numpy(self._model.coef_.copy()).to(beta)
        return beta
