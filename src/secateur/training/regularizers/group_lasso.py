"""Group lasso: the sum of the norms of whole units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from secateur.errors import PlanError
from secateur.recipe import Recipe
from secateur.training.regularizers.penalised import parameter_of
from secateur.training.regularizers.regularizer import Regularizer, checked
from secateur.units import ParameterAxis, Role, Units


def group_lasso(strength: float, units: Mapping[str, Units], *, roles: Collection[Role] = ("out", "in")) -> Regularizer:
    r"""Sum of the norms of whole units; it takes all weights of a unit to zero together.

    .. math:: R = \lambda \sum_g \sqrt{n_g} \, \lVert w_g \rVert_2

    with w_g the weights of unit g in all parameters of the given roles, and n_g their number. The
    gradient of a unit that is zero already is taken as zero, so pruned units stay where they are.

    Args:
        strength: The factor lambda, 0 or more.
        units: The groups, as a granularity returns them, e.g. ``granularity.filter()(model)``.
            Groups that are frozen are left out.
        roles: Which parameters of a unit count: by default the weights that produce it and those
            that consume it, but neither biases nor norms.

    Returns:
        A function of the model the units were made for.

    Raises:
        RunError: If `strength` is negative or not finite.
        PlanError: If no group has a parameter of these roles.

    Shapes:
        Norms `(n_units,)` of each group to a scalar.

    Reference:
        M. Yuan, Y. Lin, *Model selection and estimation in regression with grouped variables*,
        J. R. Statist. Soc. B 68, 2006, for norms with the factor of the size; W. Wen, C. Wu, Y. Wang,
        Y. Chen, H. Li, *Learning Structured Sparsity in Deep Neural Networks*, NeurIPS 2016,
        for filters and channels (without the factor of the size).

    Example:
        Two rows of two weights: sqrt(2) * (5 + 0).

        >>> from secateur.index_maps import Arange
        >>> layer, axis = nn.Linear(2, 2), ParameterAxis("weight")
        >>> _ = layer.weight.data.copy_(torch.tensor([[3.0, -4.0], [0.0, 0.0]]))
        >>> row = Arange((2, 2), repeat=(1, 2))
        >>> rows = Units({axis: row}, Arange((2,), repeat=(2,)), {axis: "out"})
        >>> round(group_lasso(1.0, {"rows": rows})(layer).item(), 4)
        7.0711
    """
    factor = checked(strength)
    terms = [
        _Term(one, axes, _root_size(one, axes))
        for one in units.values()
        if not one.frozen and (axes := [axis for axis in one.index if one.role[axis] in roles])
    ]
    if not terms:
        raise PlanError(
            f"none of the {len(units)} groups has parameters of the roles {sorted(roles)} that may"
            " go; expected at least one. Pass the units of a granularity, or other roles"
        )
    return Recipe(f"group_lasso({strength:g})", partial(_group_penalty, factor, terms))


@dataclass(frozen=True)
class _Term:
    """A group, the parameters of it that count, and the root of the size of each unit."""

    units: Units
    axes: list[ParameterAxis]
    root_size: Tensor


def _group_penalty(strength: float, terms: list[_Term], model: nn.Module) -> Tensor:
    parts = [(term.root_size, _norms(term, model)) for term in terms]
    return strength * torch.stack([(root.to(norms) * norms).sum() for root, norms in parts]).sum()


def _norms(term: _Term, model: nn.Module) -> Tensor:
    squares = {axis: parameter_of(model, axis.parameter, term.units.index[axis].shape).square() for axis in term.axes}
    total = term.units.reduce(squares, within="sum", across="sum")
    # The root has an infinite slope at zero; a unit that is zero gets slope 0 instead.
    alive = total > 0
    return torch.where(alive, torch.where(alive, total, 1).sqrt(), 0)


def _root_size(units: Units, axes: list[ParameterAxis]) -> Tensor:
    counts = torch.stack([units.index[axis].counts() for axis in axes])
    return counts.sum(0).double().sqrt()
