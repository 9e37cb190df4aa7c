"""Two models side by side on the same data: what the whole one computes, from what the pruned one has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.batches import device_of, mode, pair, to_device
from secateur.errors import DataError, PlanError
from secateur.masking import tensor_of
from secateur.plan import Plan
from secateur.reconstruction.moments import Moments, measured
from secateur.reconstruction.sampling import Sampling, outputs_at, patches_at, shape_of
from secateur.reconstruction.sites import Branches, Site, run, weight_matrix

# Where the norm scales an output by less than this part of the mean, the layer cannot make up for what comes beside it.
FAINT = 0.01


@dataclass(frozen=True, eq=False)
class Reading:
    """What was measured of one layer, in units of its output after the norm behind it.

    Args:
        site: The layer.
        moments: Of the pruned model's inputs and the whole model's outputs.
        weight: The pruned model's, `(groups, columns, outputs)`, times `scale`, in double precision.
        scale: What the norm multiplies each output by, 1 without one, 0 for outputs that have left; `(groups,
            outputs)`.
        constant: What the pruned model adds to each output, `(groups, outputs)`: its bias, or what the norm's mean has
            changed; None where nothing can be added.
    """

    site: Site
    moments: Moments
    weight: Tensor
    scale: Tensor
    constant: Tensor | None

    @property
    def intercept(self) -> bool:
        """Whether a constant can be added to each output: to a bias, or to the mean that the norm keeps."""
        return self.constant is not None

    @property
    def fit(self) -> Moments:
        """The moments that a regression uses: about the means where there is an intercept."""
        return self.moments.centred() if self.intercept else self.moments

    @property
    def energy(self) -> float:
        """Sum of squares of the wanted outputs."""
        return float(self.fit.yy.sum())

    def error(self, weight: Tensor | None = None) -> float:
        """Error over energy, of the measured points.

        Args:
            weight: As `weight`, with the best constants there are; left out: what the pruned model has of both.

        Returns:
            0 for outputs that are met, 1 for a layer that says nothing; 0 where the wanted outputs are constant.
        """
        wrong = float(self.fit.error(self.weight if weight is None else weight).sum())
        if weight is None and self.constant is not None:
            moments = self.moments
            off = (moments.y - (moments.x[:, None] @ self.weight)[:, 0]) / moments.count - self.constant
            wrong += moments.count * float(off.square().sum())
        return wrong / self.energy if self.energy else 0.0


@dataclass
class _Seen:
    """Points of one layer in one pass."""

    rows: list[Tensor] = field(default_factory=list)
    beside: Tensor | None = None


Around = Callable[[int], tuple[AbstractContextManager[None], AbstractContextManager[None]]]
"""From the number of a batch to that in which the whole and the pruned model run on it."""


class _Enough(BaseException):
    """Ends a pass when everything has been seen."""


@contextmanager
def side_by_side(model: nn.Module, pruned: nn.Module) -> Iterator[None]:
    """Both models in eval mode, and back at the end.

    Args:
        model: The whole one.
        pruned: The other one.

    Yields:
        Nothing.
    """
    with mode(model, training=False), mode(pruned, training=False):
        yield


def repeatable(data: Iterable[Any] | None, method: str) -> Iterable[Any]:
    """Data that can be gone through several times; what comes once is held in memory.

    Args:
        data: Batches.
        method: Who needs them.

    Returns:
        The batches.

    Raises:
        DataError: There are none.
    """
    if data is None:
        raise DataError(f"{method} needs data: pass data=, batches of inputs and targets")
    return list(data) if iter(data) is data else data


def refuse_crossed(plan: Plan, method: str) -> None:
    """Refuse channels across norms: the smaller model computes something else than the masked one that is looked at.

    Args:
        plan: What leaves.
        method: Who refuses.

    Raises:
        PlanError: Some cross a norm.
    """
    for part in plan.parts:
        if part.units.crosses and not bool(part.keep.all()):
            raise PlanError(
                f"{part.name!r} takes channels out of a mean or variance ({part.units.crosses}); {method} mends what "
                "the masked model computes, which the smaller one does not then. Plan with cross_norms=False"
            )


def read(
    model: nn.Module,
    pruned: nn.Module,
    sites: Sequence[Site],
    data: Iterable[Any],
    how: Sampling,
    *,
    branches: bool,
    around: Around | None = None,
) -> list[Reading]:
    """Go once through the data with both models, and measure some layers.

    Args:
        model: The whole model.
        pruned: The model as far as it has been pruned, its weights at zero in place.
        sites: Which layers.
        data: Batches of inputs and targets. Both models see one batch after another, so they may be shuffled.
        how: Which points.
        branches: Whether the last layer of a residual branch also makes up for what its shortcut has lost.
        around: In what the pass of each model over a batch of that number runs, such as with stages skipped.

    Returns:
        A reading of each layer that the data reach.

    Raises:
        DataError: There was no batch, or a layer's inputs or outputs are not finite.
    """
    sites = [site if branches else replace(site, added=False) for site in sites]
    scales = [_scale(model, pruned, site) for site in sites]
    totals: dict[str, Moments] = {}
    device, empty = device_of(model), True
    for number, batch in enumerate(data):
        empty = False
        inputs = to_device(pair(batch)[0], device)
        first, second = around(number) if around else (nullcontext(), nullcontext())
        with first:
            wanted = _pass(model, sites, inputs, how, number, patches=False)
        with second:
            found = _pass(pruned, sites, inputs, how, number, patches=True)
        for site, scale in zip(sites, scales, strict=True):
            if not wanted[site.name].rows:
                continue
            one = _moments(scale, wanted[site.name], found[site.name])
            totals[site.name] = totals[site.name] + one if site.name in totals else one
    if empty:
        raise DataError("reconstruction needs data: there was no batch. Is the loader exhausted?")
    return [
        Reading(
            site,
            _finite(site, totals[site.name]),
            _scaled(pruned, site, scale),
            scale,
            _constant(model, pruned, site, scale),
        )
        for site, scale in zip(sites, scales, strict=True)
        if site.name in totals
    ]


def _pass(
    model: nn.Module, sites: Sequence[Site], inputs: Any, how: Sampling, number: int, *, patches: bool
) -> dict[str, _Seen]:
    """One batch through one model, as far as needed."""
    seen = {site.name: _Seen() for site in sites}
    left = {(site.name, kind) for site in sites for kind in ("rows", "beside")[: 1 + site.added]}
    modules = {site.name: model.get_submodule(site.name) for site in sites}
    places: dict[str, Tensor] = {}

    def done(name: str, kind: str) -> None:
        left.discard((name, kind))
        if not left:
            raise _Enough

    def ran(site: Site, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        mine = seen[site.name]
        samples, positions = shape_of(module, output)
        at = how.places(site.name, batch=number, samples=samples, positions=positions, call=len(mine.rows))
        places[site.name] = at
        given = args[0] if args else kwargs["input"]
        mine.rows.append(patches_at(module, given, at) if patches else outputs_at(module, output, at))
        if site.added:
            adds.follow(site.name, output)
        if len(mine.rows) == site.calls:
            done(site.name, "rows")

    def normed(site: Site, _: nn.Module, __: Any, output: Tensor) -> None:
        adds.follow(site.name, output, begins=False)

    def beside(name: str, other: Tensor) -> None:
        seen[name].beside = outputs_at(modules[name], other, places[name])
        done(name, "beside")

    adds = Branches(beside)
    with ExitStack() as stack:
        for site in sites:
            handle = modules[site.name].register_forward_hook(partial(ran, site), with_kwargs=True)
            stack.callback(handle.remove)
            if site.added and site.norm:
                behind = model.get_submodule(site.norm).register_forward_hook(partial(normed, site))
                stack.callback(behind.remove)
        if any(site.added for site in sites):
            stack.enter_context(adds)
        with suppress(_Enough):
            run(model, inputs)
    return seen


def _moments(scale: Tensor, wanted: _Seen, found: _Seen) -> Moments:
    """Wanted is what the whole model has after the norm, and what is missing beside it."""
    target = torch.cat(wanted.rows).double() * scale
    if wanted.beside is not None and found.beside is not None:
        missing = wanted.beside.double() - found.beside.double()
        target = target + missing * (scale.abs() > FAINT * scale.abs().mean())
    return measured(torch.cat(found.rows), target)


def _scale(model: nn.Module, pruned: nn.Module, site: Site) -> Tensor:
    weight = weight_matrix(site.layer, tensor_of(pruned, site.layer.parameter).detach())
    stays = weight.ne(0).any(1).double()
    if not site.norm:
        return stays
    norm: Any = model.get_submodule(site.norm)
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.detach().double()
    scale: Tensor = stays * factor.reshape(stays.shape)
    return scale


def _scaled(pruned: nn.Module, site: Site, scale: Tensor) -> Tensor:
    weight = tensor_of(pruned, site.layer.parameter).detach().double()
    return weight_matrix(site.layer, weight) * scale[:, None]


def _constant(model: nn.Module, pruned: nn.Module, site: Site, scale: Tensor) -> Tensor | None:
    bias: Tensor | None = pruned.get_submodule(site.name)._parameters.get("bias")
    shift = torch.zeros_like(scale)
    if site.norm:  # a smaller mean is a constant added
        name = f"{site.norm}.running_mean"
        shift = (tensor_of(model, name).double() - tensor_of(pruned, name).double()).reshape(scale.shape)
    if bias is not None:
        shift = shift + bias.detach().double().reshape(scale.shape)
    return shift * scale if site.norm or bias is not None else None


def _finite(site: Site, moments: Moments) -> Moments:
    if not all(bool(torch.isfinite(one).all()) for one in (moments.xx, moments.xy, moments.yy)):
        raise DataError(
            f"inputs or outputs of {site.label!r} are not finite: look for NaN or infinity in the data and the weights"
        )
    return moments
