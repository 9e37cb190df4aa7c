"""A record run with parts masked, its means and variances taken over what is left."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.dependency.record import Call, Reference, execute, replay
from secateur.dependency.resize import Cut

# Operations that take a mean or variance, and the argument that it is taken of.
STATISTICS: Mapping[str, str] = {
    **dict.fromkeys(("native_layer_norm", "_fused_rms_norm", "rms_norm", "native_group_norm"), "input"),
    **dict.fromkeys(("mean", "var", "std", "var_mean", "std_mean"), "self"),
}


def masked_replay(cut: Cut, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """What a model computes with the parameters of what leaves at zero.

    Where a mean or variance is taken over channels of which some leave, it is taken over the others, and the result is
    zero for those that leave; everything else is computed as it was recorded.

    Args:
        cut: What leaves.
        state: Parameters and buffers of the whole model, by name.
        inputs: As for `replay`.

    Returns:
        The tensors of the model's output.
    """
    record = cut.solution.record
    masked = dict(state)
    for number in record.numbers("parameter"):
        for name in record.values[number].names:
            if name in state:
                masked[name] = cut.masked(number, state[name])

    def run(call: Call, tensors: dict[int, Tensor]) -> None:
        if _crosses(cut, call):
            _in_the_small(cut, call, tensors)
        else:
            execute(call, tensors)

    return replay(record, masked, inputs, run)


def _crosses(cut: Cut, call: Call) -> bool:
    argument = STATISTICS.get(call.name)
    if argument is None or call.results[0] in cut.lifted:
        return False
    number = call.given[argument].number
    return any(cut.kept(number, dim) is not None for dim in range(len(cut.shape(number))))


def _in_the_small(cut: Cut, call: Call, tensors: dict[int, Tensor]) -> None:
    """Run an operation without what leaves, and put zeros in its place."""
    small = {one: cut.sliced(one, tensors[one]) for one in _read(call)}
    execute(cut.call(call), small)
    for number in call.results:
        if number is not None:
            tensors[number] = _spread(cut, number, small[number])


def _read(call: Call) -> list[int]:
    given = (*call.arguments, *call.keywords.values())
    return [one.number for one in given if isinstance(one, Reference)]


def _spread(cut: Cut, number: int, small: Tensor) -> Tensor:
    for dim in range(small.ndim):
        kept = cut.kept(number, dim)
        if kept is not None:
            shape = list(small.shape)
            shape[dim] = len(kept)
            whole = small.new_zeros(shape)
            small = whole.index_copy(dim, torch.from_numpy(kept.nonzero()[0]).to(small.device), small)
    return small
