"""One model, pruned with secateur, and what the result is held to."""

from __future__ import annotations

import copy
import importlib
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import secateur as sc
from _coverage.limits import cause, let, tell, timed
from _coverage.models import Example, build
from _coverage.rows import AS_TIER_1
from secateur import allocation, criteria, granularity
from secateur.batches import call
from secateur.dependency.recorder import tensors_in
from secateur.errors import PlanError
from secateur.surgery.proof import difference
from secateur.surgery.shrink import cut
from secateur.units import ParameterAxis, Units
from secateur.workload import Workload, resize, workload
from tests.zoo.specimen import perturb

SPARSITY = 0.5
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)
Level = Callable[[nn.Module, nn.Module, sc.Plan, Example], dict[str, Any]]
channel = importlib.import_module("secateur.granularity.channel")  # the function of this name hides the module


class Settled(Exception):  # noqa: N818  it is no error
    """There is nothing to prune; with the verdict and why."""


def measure(library: str, name: str, limit: float, *, crossed: bool = False) -> None:
    """Prune a model and tell how far it came, level by level.

    Args:
        library: Where the model is from.
        name: Of the model.
        limit: Seconds of the processor for the trace, the plan, the smaller model and its proof together.
        crossed: Whether channels leave over which a norm takes a mean or variance: tier 2.
    """
    tell(stage="build")
    model, example = build(library, name)
    perturb(model, torch.Generator().manual_seed(0))
    before = count(model)
    tell(parameters=before, input=shapes(example(1, 0)))
    tell(convolutional=_yes(convolutional(workload(model, example(1, 0)))), stage="trace")
    try:
        let(limit)
        plan, small = pruned(model, example(1, 0), crossed)
        let(0)
    except Settled as settled:
        verdict, why = settled.args
        tell(verdict=verdict, cause=why)
        return
    except Exception as error:
        tell(verdict="fail", cause=cause(error))
        return
    tell(**sizes(model, small, plan))
    results: dict[str, Any] = {}
    levels: tuple[tuple[str, Level], ...] = (
        ("macs", partial(counted, crossed)),
        ("forward", equal_but_for_norms if crossed else equal),
        ("train_step", stepped),
        ("reload", partial(reloaded, library, name)),
    )
    for stage, level in levels:
        tell(stage=stage)
        try:
            results |= level(model, small, plan, example)
        except Exception as error:
            results |= {stage: "no", "cause": f"{stage}: {cause(error)}"}
        tell(**results)
    tell(stage="done")


def count(model: nn.Module) -> int:
    """Parameters of a model, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(inputs: Any) -> str:
    """Shapes of a batch in words."""
    return " ".join("x".join(map(str, one.shape)) for one in tensors_in(inputs))


def convolutional(found: Workload) -> bool:
    """Whether a model is a convolutional network.

    Convolutions do most of its multiply-accumulates, and nowhere are two activations multiplied as matrices, as
    attention does.
    """
    macs: Counter[str] = Counter()
    for layer in found.layers:
        macs[layer.kind] += layer.macs
    return not macs["matmul"] + macs["attention"] and 2 * (macs["conv"] + macs["transposed"]) > found.macs


def pruner_of(example: Any, crossed: bool) -> sc.Pruner:
    """Half of every group's units go by their size; in tier 2 also those over which a norm takes a statistic."""
    return sc.Pruner(criteria.magnitude(p=2), granularity.channel(example, cross_norms=crossed), allocation.uniform())


def pruned(model: nn.Module, example: Any, crossed: bool) -> tuple[sc.Plan, nn.Module]:
    """Half of every group's units taken out by their size; how long each part took is told."""
    times: dict[str, float] = {}
    for step, function in (("record", "record_all"), ("solve", "fitted")):
        setattr(channel, function, _timing(getattr(channel, function), times, step))
    pruner = pruner_of(example, crossed)
    with timed(times, "groups"):
        groups = pruner.granularity(model)
    tell(stage="plan", **_seconds(times), **reasons(model, groups))
    if all(units.frozen for units in groups.values()):
        raise Settled("frozen", "every group stays")
    if crossed and not any(units.crosses for units in groups.values()):
        raise Settled(AS_TIER_1, "no norm holds a group back")
    with timed(times, "plan"):
        plan = pruner.plan(model, sc.Budget(sparsity=SPARSITY), units=groups)
    tell(stage="shrink", **_seconds(times))
    with timed(times, "shrink"):
        small = sc.shrink(model, plan, prove=False)
    tell(stage="prove", **_seconds(times))
    with timed(times, "prove"):
        proved(model, plan)
    tell(**_seconds(times))
    return plan, small


def proved(model: nn.Module, plan: sc.Plan) -> None:
    """Tell what the proof of the smaller model says: nothing, groups that it puts back, or that it fails."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            kept = count(sc.shrink(model, plan)) / count(model)
        except PlanError as error:
            tell(proof=cause(error))
            return
    told = [str(one.message) for one in said if "put back" in str(one.message)]
    tell(proof=(" ".join(told))[:300] or "yes", proved_kept=round(kept, 4))


def _timing(function: Any, times: dict[str, float], name: str) -> Any:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with timed(times, name):
            result = function(*args, **kwargs)
        tell(stage=f"after {name}", **_seconds(times))
        return result

    return wrapped


def _seconds(times: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_seconds": round(value, 3) for name, value in times.items()}


def sizes(model: nn.Module, small: nn.Module, plan: sc.Plan) -> dict[str, Any]:
    """Parameters that stay, and whether the plan says so: what its masks leave."""
    masks = plan.masks()
    told = sum(
        int(masks[name].sum()) if name in masks else parameter.numel() for name, parameter in model.named_parameters()
    )
    directions = _beside(model, plan)
    return {"kept": round(count(small) / count(model), 4), "predicted": _yes(told - directions == count(small))}


def _beside(model: nn.Module, plan: sc.Plan) -> int:
    """Weights of parameters that leave without being masked."""
    parameters = dict(model.named_parameters())
    lost = 0
    for part in plan.parts:
        keep = torch.cat([part.keep, torch.ones(1, dtype=torch.bool)])
        for axis, index in part.units.beside.items():
            if axis.parameter in parameters:
                units = index.numbers().expand(parameters[axis.parameter].shape)
                lost += int((~keep[units]).sum())
    return lost


def reasons(model: nn.Module, groups: Mapping[str, Units]) -> dict[str, Any]:
    """Whether every layer's outputs are in a group that is free, or in one that says why not."""
    layers = dict(prunable(model))
    free, frozen = (
        {axis for units in groups.values() if bool(units.frozen) == still for axis in units.index}
        for still in (False, True)
    )
    silent = [layer for layer, names in layers.items() if not names & (free | frozen)]
    why: dict[str, int] = {}
    for units in groups.values():
        if units.frozen:
            text = units.frozen.split(" (")[0]
            why[text] = why.get(text, 0) + 1
    return {
        "groups": sum(not units.frozen for units in groups.values()),
        "layers": len(layers),
        "layers_frozen": sum(not names & free for names in layers.values()),
        "layers_silent": len(silent),
        "silent": " ".join(silent[:5]),
        "reasons": "; ".join(f"{text}: {n}" for text, n in sorted(why.items(), key=lambda one: -one[1])),
    }


def prunable(model: nn.Module) -> Iterator[tuple[str, set[ParameterAxis]]]:
    """Linear layers and convolutions by name, with what their outputs may be called."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for path, module in model.named_modules():
        weight = getattr(module, "weight", None)
        turned = type(module).__name__ == "Conv1D"
        if isinstance(weight, Tensor) and id(weight) in names and (isinstance(module, LAYERS) or turned):
            axis = int(turned or bool(getattr(module, "transposed", False)))
            yield path, {ParameterAxis(name, axis) for name in names[id(weight)]}


def equal(model: nn.Module, small: nn.Module, plan: sc.Plan, example: Example) -> dict[str, Any]:
    """Whether the smaller model runs, and how far it is from the masked one on inputs it has not seen.

    `moved` is how far the masked model is from the dense one: were it 0, the comparison would say nothing.
    """
    fresh = example(1, 1)
    dense, masked, less = (outputs(one, fresh) for one in (model, sc.mask(model, plan), small))
    same = [one.shape for one in dense] == [one.shape for one in less]
    if not same:
        return {"forward": "no", "cause": f"shapes {[tuple(one.shape) for one in less]}"}
    return {"forward": "yes", "difference": apart(less, masked), "moved": apart(masked, dense)}


def equal_but_for_norms(model: nn.Module, small: nn.Module, plan: sc.Plan, example: Example) -> dict[str, Any]:
    """As `equal`, the masked model with means and variances over what is left, which is how the proof has it.

    The weights are perturbed once more, and inputs that are no integers are drawn anew. `moved` is how far the smaller
    model is from the dense one.
    """
    fresh = example(1, 1)
    dense, less = outputs(model, fresh), outputs(small, fresh)
    if [one.shape for one in dense] != [one.shape for one in less]:
        return {"forward": "no", "cause": f"shapes {[tuple(one.shape) for one in less]}"}
    return {"forward": "yes", "difference": difference(model, plan, fresh, cut), "moved": apart(less, dense)}


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Tensors that a model returns."""
    with torch.no_grad():
        return list(tensors_in(call(model, copy.deepcopy(inputs))))


def apart(one: list[Tensor], other: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of that output."""
    pairs = [(a.double(), b.double()) for a, b in zip(one, other, strict=True) if a.is_floating_point()]
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in pairs)


def counted(crossed: bool, model: nn.Module, small: nn.Module, plan: sc.Plan, example: Example) -> dict[str, Any]:
    """Whether the plan says how many multiply-accumulates stay, layer by layer."""
    before, after = pruner_of(example(1, 0), crossed).workload(model), workload(small, example(1, 0))
    told = resize(before, plan)
    return {"macs_kept": round(after.macs / before.macs, 4), "macs": _yes(told == after)}


def stepped(model: nn.Module, small: nn.Module, plan: sc.Plan, example: Example) -> dict[str, Any]:  # noqa: ARG001
    """One step of an optimizer in train mode, on two samples."""
    trained = copy.deepcopy(small).train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-6)
    found = [one for one in tensors_in(call(trained, example(2, 2))) if one.requires_grad]
    torch.stack([one.float().square().mean() for one in found]).sum().backward()
    optimizer.step()
    with_gradient = sum(parameter.grad is not None for parameter in trained.parameters())
    finite = all(bool(parameter.isfinite().all()) for parameter in trained.parameters())
    return {"train_step": _yes(with_gradient > 0 and finite)}


def reloaded(
    library: str,
    name: str,
    model: nn.Module,  # noqa: ARG001
    small: nn.Module,
    plan: sc.Plan,  # noqa: ARG001
    example: Example,
) -> dict[str, Any]:
    """Whether the model that a new process makes of a file gives the same, bit by bit."""
    wanted = outputs(small, example(1, 3))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small.safetensors"
        sc.save(small, file)
        command = [sys.executable, sys.argv[0], "--file", str(file), "--child", "restored", library, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr.strip()[-200:])
        found = load_file(file.with_name("outputs.safetensors"))
    same = [torch.equal(one, found[str(at)]) for at, one in enumerate(wanted)]
    return {"reload": _yes(len(found) == len(wanted) and all(same))}


def restored(library: str, name: str, file: Path) -> None:
    """Make a model as its code does, read a file into it, and keep its outputs beside the file."""
    model, example = build(library, name)
    found = outputs(sc.restore(file, model), example(1, 3))
    save_file(
        {str(at): one.clone(memory_format=torch.contiguous_format) for at, one in enumerate(found)},
        file.with_name("outputs.safetensors"),
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"
