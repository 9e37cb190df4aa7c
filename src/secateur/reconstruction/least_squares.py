"""Least squares: weights that stay take over from those that leave."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.masking import mask, tensor_of
from secateur.plan import Plan
from secateur.pruner import Refit
from secateur.recipe import Recipe
from secateur.reconstruction.forward_order import inputs_of, users_of
from secateur.reconstruction.in_turn import Settings
from secateur.reconstruction.observe import Around, Reading, read, refuse_crossed, repeatable, side_by_side
from secateur.reconstruction.sampling import Sampling
from secateur.reconstruction.sites import Site, survey, weight_matrix
from secateur.reconstruction.solve import fitted, is_few, put, remarks
from secateur.reconstruction.stages import Stages, chain_of, homes_of

# An error below this part of the energy is rounding: the layer computes what it did.
SAME = 1e-10


def least_squares(
    points: int | None = 10,
    *,
    everywhere: bool = True,
    branches: bool = True,
    damping: float = 0.0,
    seed: int = 0,
    stages: str | None = None,
) -> Refit:
    """Fit the weights that stay, whatever chose them, so that each layer's outputs come back as far as they can.

    `min over W' of |Y - X W' - b|^2`, W' zero where the plan removes, with inputs X from the pruned model and outputs Y
    of the whole one, at sampled points. Layers come in the order in which they run, and those whose inputs and weights
    are what they were stay as they are. Norms and residual branches are treated as in `lasso`. A warning names the
    layers for which the points were too few.

    Where channels leave, all outputs of a layer share one linear system of its columns. Where single weights leave,
    every output has a system of its own, so a layer takes `outputs * columns^3` operations.

    Args:
        points: Output positions of each sample that are looked at; None: all.
        everywhere: Whether layers that lose no weights are fitted too where their inputs have changed, as behind
            filters that are zero; it needs more data than to fit only those that lose some.
        branches: Whether residual branches make up for their shortcuts.
        damping: Relative to the mean square of each input; pulls towards the weights there are, for few data.
        seed: Of the points.
        stages: Name of the module whose children run one after the other, such as the blocks of a transformer, or
            `"auto"`: then one stage of each model runs for a layer rather than all up to there, and the batches, and
            what a stage has put out for them, are held in memory. See `forward_order`.

    Returns:
        Refit: for `Pruner(..., refit=least_squares())`, which then needs data.

    Shapes:
        At P points: X `(P, I h w)`, W' `(I h w, O)`, b `(O,)`, Y `(P, O)`.

    Reference:
        He, Zhang, Sun (2017), Channel Pruning for Accelerating Very Deep Neural Networks, step (ii).

    Example:
        Inputs that are always equal: the weight that stays takes over the other's.

        >>> from secateur import allocation, criteria, granularity
        >>> from secateur.pruner import Budget, Pruner
        >>> fc = nn.Linear(2, 1, bias=False)
        >>> _ = fc.weight.data.copy_(torch.tensor([[1.0, 2.0]]))
        >>> pruner = Pruner(criteria.magnitude(), granularity.weight(), allocation.uniform(), refit=least_squares())
        >>> data = [(torch.tensor([[1.0, 1.0], [3.0, 3.0]]), None)]
        >>> pruner.plan(fc, Budget(sparsity=0.5), data=data).updates["weight"]
        tensor([[0., 3.]])
    """
    settings = Settings("least_squares", Sampling(points, seed), damping, branches)
    more = "".join(
        f", {name}={value}"
        for name, value, default in (
            ("everywhere", everywhere, True),
            ("branches", branches, True),
            ("damping", damping, 0.0),
            ("stages", stages, None),
        )
        if value != default
    )
    name = f"least_squares(points={points}{more})"
    return Recipe(name, partial(_updates, settings=settings, everywhere=everywhere, stages=stages))


def _updates(
    model: nn.Module,
    plan: Plan,
    data: Iterable[Any] | None,
    *,
    settings: Settings,
    everywhere: bool,
    stages: str | None,
) -> dict[str, Tensor]:
    refuse_crossed(plan, settings.method)
    masks = plan.masks()
    if not masks:
        return {}
    batches, pruned = repeatable(data, settings.method), mask(model, plan).requires_grad_(False)
    batches = batches if stages is None else list(batches)
    changed: set[str] = set()
    singular, few = [], []
    with side_by_side(model, pruned):
        sites = survey(model, batches)
        staged = _Staged(model, pruned, batches, sites, stages) if isinstance(batches, list) and stages else None
        for site in sites:
            if not (everywhere or _loses(masks.get(site.layer.parameter))):
                continue
            around = staged.around(site) if staged else None
            found = read(model, pruned, [site], batches, settings.sampling, branches=settings.branches, around=around)
            if not found or found[0].error() < SAME:
                continue
            keep = _kept(found[0], masks)
            weight, bad = fitted(found[0].fit, found[0].weight, keep, damping=settings.damping)
            changed |= put(model, pruned, found[0], weight)
            singular += [site.label] if bad else []
            few += [site.label] if is_few(found[0], keep) and not settings.damping else []
    if said := remarks(singular, few, settings.method):
        warnings.warn(said, stacklevel=4)
    return {name: tensor_of(pruned, name).detach().clone() for name in sorted(changed)}


class _Staged:
    """Both models stage by stage, as far as the layers before have been fitted."""

    def __init__(
        self, model: nn.Module, pruned: nn.Module, batches: list[Any], sites: Sequence[Site], stages: str
    ) -> None:
        inputs, users = inputs_of(batches, "least_squares"), users_of(model, [site.layer.parameter for site in sites])
        chain = chain_of(model, users, inputs[0], stages)
        names = {id(module): name for name, module in model.named_modules()}
        twins = [pruned.get_submodule(names[id(module)]) for module in chain]
        self._homes = homes_of(users, chain)
        self._both = (Stages(model, inputs, chain), Stages(pruned, inputs, twins))

    def around(self, site: Site) -> Around:
        """What runs of both models for a layer; sites come in the order in which they run."""
        stage, (first, second) = self._homes[site.layer.parameter], self._both
        first.advance(stage)
        second.advance(stage)
        return lambda number: (first.skipped(number, stage), second.skipped(number, stage))


def _loses(mask: Tensor | None) -> bool:
    """Whether outputs that stay lose some of their weights."""
    if mask is None:
        return False
    rows = mask.flatten(1)
    return bool((rows.any(1) & ~rows.all(1)).any())


def _kept(reading: Reading, masks: dict[str, Tensor]) -> Tensor:
    layer = reading.site.layer
    whole = torch.ones(layer.shape, dtype=torch.bool)
    return weight_matrix(layer, masks.get(layer.parameter, whole)).to(reading.weight.device)


def errors(
    model: nn.Module, pruned: nn.Module, data: Iterable[Any], *, points: int | None = 10, seed: int = 0
) -> dict[str, float]:
    """How far each layer's outputs are from what they were.

    `error = |Y - Y'|^2 / |Y - mean Y|^2` over sampled points, of each output of a layer in units of the norm behind it.

    Args:
        model: The whole model.
        pruned: The same with weights at zero, as `mask` returns it.
        data: Batches of inputs and targets.
        points: Of each sample.
        seed: Of the points.

    Returns:
        By name of the layer, in the order in which they run; outputs that have left do not count.

    Shapes:
        Y and Y' `(P, O)` at P points, for a number of each layer.

    Example:
        >>> fc = nn.Linear(2, 1, bias=False)
        >>> _ = fc.weight.data.copy_(torch.tensor([[1.0, 1.0]]))
        >>> half = nn.Linear(2, 1, bias=False)
        >>> _ = half.weight.data.copy_(torch.tensor([[1.0, 0.0]]))
        >>> errors(fc, half, [(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), None)])
        {'weight': 0.25}
    """
    batches = repeatable(data, "errors")
    with side_by_side(model, pruned):
        sites = survey(model, batches)
        readings = read(model, pruned, sites, batches, Sampling(points, seed), branches=False)
    return {reading.site.label: reading.error() for reading in readings}
