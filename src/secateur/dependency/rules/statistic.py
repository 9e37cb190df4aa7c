"""Operations that fold dimensions: sums, means, norms, extremes, softmax."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from secateur.dependency.facets import Labelled, along, reshaped
from secateur.dependency.step import Rule, Step, for_each, words

# Folds of which the result is not zero where all that is folded is.
NOT_ZERO = words("_softmax softmax _log_softmax log_softmax logsumexp argmax argmin topk sort argsort _safe_softmax")

# Means and variances, which may be taken over what is left.
CROSSABLE = words("mean var std var_mean std_mean")


def dims_of(step: Step, given: Labelled) -> list[int]:
    """The dimensions that are folded.

    Args:
        step: The operation.
        given: The tensor.

    Returns:
        Numbers from 0; all dimensions if the operation names none.
    """
    named = step.get("dim")
    named = [named] if isinstance(named, int) else list(named or range(len(given.shape)))
    return [dim % max(1, len(given.shape)) for dim in named]


def needs_zero(step: Step, given: Labelled, dims: Collection[int]) -> None:
    """Along some dimensions, what is not zero where it is masked has to stay, since masking would not remove it.

    Args:
        step: The operation.
        given: The tensor.
        dims: The dimensions.
    """
    inside = [facet for facet in given.facets if along(facet.core) & set(dims)]
    lost = tuple(facet for facet in inside if not step.partition.vanishes(facet))
    if lost:
        step.fix(Labelled(given.shape, lost), dims, "it is summed over and is not zero where it is masked")


def folded(step: Step, given: Labelled, dims: Collection[int]) -> Labelled:
    """The labels that are left when dimensions are folded.

    Args:
        step: The operation.
        given: The tensor, constant along the dimensions or free to lose members there.
        dims: The dimensions.

    Returns:
        The labels of the first result.
    """
    left = tuple(facet for facet in given.facets if not along(facet.core) & set(dims))
    if step.call.name in NOT_ZERO:
        left = tuple(replace(facet, zero=False) for facet in left)
    if len(step.shape) == len(given.shape):
        return Labelled(step.shape, left)
    return reshaped(
        Labelled(tuple(1 if dim in dims else size for dim, size in enumerate(given.shape)), left), step.shape
    )


def statistic(step: Step) -> list[Labelled]:
    """Every member counts: along the dimensions nothing may leave, unless the code drops the result.

    Args:
        step: The operation.

    Returns:
        The same labels for every result.
    """
    given: Labelled = step.get("self") if "self" in step.arguments else step["input"]
    dims = dims_of(step, given)
    if step.needed or step.call.name not in CROSSABLE:
        take = step.statistic if step.call.name in CROSSABLE else step.fix
        given = take(given, dims, "a statistic is taken along it")
    result = folded(step, given, dims)
    return [result for _ in step.shapes]


def _sum(step: Step) -> Labelled:
    """Members that are zero where they are masked may leave."""
    given: Labelled = step["self"]
    dims = dims_of(step, given)
    rest = [dim for dim in range(len(given.shape)) if dim not in dims]
    given = step.keep(given, rest)
    needs_zero(step, given, dims)
    return folded(step, step.partition.normal(given), dims)


def _norm(step: Step) -> Labelled:
    order = step.get("ord", step.get("p", 2))
    if isinstance(order, int | float) and order > 0:
        return _sum(step)
    return statistic(step)[0]


RULES: dict[str, Rule] = {
    **for_each("sum count_nonzero", _sum),
    **for_each("linalg_vector_norm norm", _norm),
    **for_each(
        "mean var std var_mean std_mean _softmax softmax _log_softmax log_softmax _safe_softmax logsumexp "
        "amax amin max min argmax argmin aminmax median prod any all cumsum cumprod logcumsumexp topk "
        "sort argsort kthvalue mode cummax cummin",
        statistic,
    ),
}
