"""The partition of labels into sets that leave together, and the few ways in which rules may coarsen it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secateur.dependency.facets import Facet, Labelled, Shape, along, axis_core, collapsed
from secateur.dependency.labels import Labels, Numbers

FIXED = -1


@dataclass(frozen=True)
class Reason:
    """Why something stays.

    Args:
        text: In words.
        op: The operation that asks for it.
        module: The module that was running.
        line: `file:line` in the code of the model.
    """

    text: str
    op: str = ""
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        """One line.

        Returns:
            The words, and where.
        """
        where = " ".join(part for part in (self.op, self.module and f"in {self.module}", self.line) if part)
        return f"{self.text} ({where})" if where else self.text


ONE_UNIT = Reason("it would leave as a whole: one unit is left")


@dataclass(frozen=True)
class Note:
    """Labels that shall be alike along some dimensions.

    Args:
        core: Of the facet.
        dims: Along which it shall not vary.
        hard: Whether nothing else would do; else it is the choice between several ways.
    """

    core: Numbers
    dims: frozenset[int]
    hard: bool


class Partition:
    """Labels, which of them are fixed and why.

    While `looking`, a facet that varies along two dimensions of which a rule needs one constant is only noted: what
    comes later may say which of the two must stay apart. `settle` then unites what was noted. What would be frozen
    waits too; where nothing had to be chosen, it is frozen then, and the record need not be gone through again.
    """

    def __init__(self, *, cross: bool = False, liftable: Iterable[int] = ()) -> None:
        """Nothing labelled.

        Args:
            cross: Whether channels over which a mean or variance is taken may leave all the same.
            liftable: Numbers of the values that are means which can be made up for.
        """
        self.labels = Labels()
        self.looking = True
        self.cross = cross
        self.crossed: list[tuple[Numbers, Reason]] = []
        self.liftable = frozenset(liftable)
        self.lifted: set[int] = set()
        self.heads: list[Numbers] = []
        self._spoiled: set[int] = set()
        self.notes: list[Note] = []
        self.waiting: list[tuple[Numbers, Reason]] = []
        self.chosen = bool(self.liftable)  # whether going along the record again may find more
        self.reasons: list[Reason] = []
        self._why: NDArray[np.int32] = np.empty(0, np.int32)

    def fresh(
        self, shape: Shape, dims: Iterable[int] | None = None, *, zero: bool = False, loose: bool = False
    ) -> Labelled:
        """A tensor with new labels.

        Args:
            shape: Its sizes.
            dims: Those to label; None: all. Dimensions of size 1 carry no label.
            zero: Whether the tensor is zero where it is masked.
            loose: Whether nobody stores it.

        Returns:
            A facet for each dimension.
        """
        chosen = range(len(shape)) if dims is None else dims
        facets = [
            Facet(axis_core(self.labels.fresh(shape[dim]), dim, len(shape)), zero, loose)
            for dim in chosen
            if shape[dim] > 1
        ]
        missing = len(self.labels) - len(self._why)
        if missing > 0:
            self._why = np.concatenate([self._why, np.full(max(missing, len(self._why)), FIXED, np.int32)])
        return Labelled(shape, tuple(facets))

    def seen(self, core: Numbers) -> Numbers:
        """The set of each label.

        Args:
            core: Labels.

        Returns:
            Of the same shape, the smallest label of the set, -1 where it is fixed.
        """
        roots = self.labels.find(core)
        return np.where(self._why[roots] == FIXED, roots, FIXED)

    def reason(self, label: int) -> Reason | None:
        """Why a label is fixed.

        Args:
            label: Any.

        Returns:
            The first reason that was given; None if it may leave.
        """
        found = self._why[self.labels.find(np.array([label]))[0]]
        return None if found == FIXED else self.reasons[found]

    def unite(self, one: Numbers, other: Numbers) -> None:
        """Let two labels leave together, for every pair; if one is fixed, the other is.

        Args:
            one: Labels.
            other: A shape that broadcasts with it.
        """
        before = np.concatenate([self.labels.find(one).ravel(), self.labels.find(other).ravel()])
        self.labels.unite(one, other)
        held = self._why[before] != FIXED
        if held.any():
            fixed = np.unique(before[held])
            self._mark(self.labels.find(fixed), self._why[fixed])

    def freeze(self, core: Numbers, reason: Reason) -> None:
        """Let labels stay.

        Args:
            core: Labels.
            reason: Why.
        """
        self.reasons.append(reason)
        self._mark(self.labels.find(core).ravel(), np.int32(len(self.reasons) - 1))

    def fixed(self, reason: Reason) -> int:
        """A label that stays.

        Args:
            reason: Why.

        Returns:
            The label.
        """
        core = self.fresh((1, 2), [1]).facets[0].core[:, :1]
        self.freeze(core, reason)
        return int(core.item())

    def spoil(self, core: Numbers) -> None:
        """Note that something with these labels was overwritten by what is not zero where it is masked.

        What is written in place shows through every view, also through those whose facets say otherwise.

        Args:
            core: Labels.
        """
        self._spoiled.update(core.ravel().tolist())
        self.chosen = True

    def vanishes(self, facet: Facet) -> bool:
        """Whether a tensor is zero wherever a facet's labels are masked.

        Args:
            facet: Of the tensor.

        Returns:
            What the facet says, unless it was spoiled.
        """
        return facet.zero and self._spoiled.isdisjoint(facet.core.ravel().tolist())

    def _mark(self, roots: Numbers, why: NDArray[np.int32] | np.int32) -> None:
        free = self._why[roots] == FIXED
        self._why[roots[free]] = why[free] if isinstance(why, np.ndarray) else why

    def normal(self, given: Labelled) -> Labelled:
        """Facets without the dimensions along which they are constant; those constant everywhere are left out.

        Args:
            given: A tensor.

        Returns:
            It with the smallest cores.
        """
        facets: list[Facet] = []
        for one in given.facets:
            core = self._narrow(one.core)
            if core.size > 1:
                facets.append(one if core is one.core else replace(one, core=core))
            elif core.size:
                self._stays(core, ONE_UNIT)
        same = len(facets) == len(given.facets) and all(a is b for a, b in zip(facets, given.facets, strict=True))
        return given if same else Labelled(given.shape, tuple(facets))

    def _narrow(self, core: Numbers) -> Numbers:
        if core.size <= 1:
            return core
        seen = self.seen(core)
        still = [dim for dim in along(core) if bool((seen == collapsed(seen, [dim])).all())]
        if not still:
            return core
        for dim in still:  # one after the other: constant along each of two means constant along both
            core = collapsed(core, [dim])
        return core

    def fix(self, given: Labelled, dims: Iterable[int], reason: Reason, *, choice: bool = False) -> Labelled:
        """Let a tensor's labels be constant along some dimensions.

        A facet that varies only along them is frozen. One that varies along others too is united along them.

        Args:
            given: A tensor.
            dims: Dimensions, negative ones too.
            reason: Why.
            choice: Whether another dimension could have been chosen.

        Returns:
            The tensor as it is after that.
        """
        given = self.normal(given)
        wanted = frozenset(dim % max(1, len(given.shape)) for dim in dims)
        kept = []
        for facet in given.facets:
            varies = along(facet.core)
            inside = varies & wanted
            if not inside:
                kept.append(facet)
            elif varies <= wanted:
                self._stays(facet.core, reason)
            else:
                self._constant(facet.core, inside, hard=not choice)
                kept.append(replace(facet, core=collapsed(facet.core, inside)))
        return self.normal(Labelled(given.shape, tuple(kept)))

    def statistic(self, given: Labelled, dims: Iterable[int], reason: Reason, made: int | None = None) -> Labelled:
        """Let a mean or variance be taken along some dimensions.

        Args:
            given: A tensor.
            dims: Along which it is taken.
            reason: Why something would be fixed.
            made: Number of the value that it is.

        Returns:
            As `fix`; where statistics may be crossed, facets that vary only along these dimensions are left as they
            are, and what they label is noted. So they are where a mean can be made up for, of what is zero where it is
            masked; nothing is crossed then.
        """
        given, inside = self.normal(given), frozenset(dim % max(1, len(given.shape)) for dim in dims)
        through = tuple(facet for facet in given.facets if along(facet.core) <= inside)
        lifts = made in self.liftable and all(map(self.vanishes, through))
        if made is not None:
            (self.lifted.add if lifts else self.lifted.discard)(made)
        if not lifts and not self.cross:
            return self.fix(given, inside, reason)
        others = tuple(facet for facet in given.facets if not along(facet.core) <= inside)
        rest = self.fix(Labelled(given.shape, others), inside, reason)
        if not lifts:
            self.crossed += [(facet.core, reason) for facet in through]
        return Labelled(given.shape, (*rest.facets, *through))

    def keep(self, given: Labelled, dims: Iterable[int]) -> Labelled:
        """Of facets that vary along some dimensions and others too, let only the first vary.

        Args:
            given: A tensor.
            dims: The dimensions that are chosen.

        Returns:
            The tensor as it is after that; facets that vary only along one side are as they were.
        """
        given, chosen, kept = self.normal(given), frozenset(dims), []
        for facet in given.facets:
            varies = along(facet.core)
            if varies & chosen and varies - chosen:
                self._constant(facet.core, varies - chosen, hard=False)
                facet = replace(facet, core=collapsed(facet.core, varies - chosen))  # noqa: PLW2901
            kept.append(facet)
        return Labelled(given.shape, tuple(kept))

    def _stays(self, core: Numbers, reason: Reason) -> None:
        """Freeze labels, or note it while looking."""
        if self.looking:
            self.waiting.append((core, reason))
        elif reason is not ONE_UNIT or self.seen(core).item() != FIXED:
            self.freeze(core, reason)

    def _constant(self, core: Numbers, dims: frozenset[int], *, hard: bool) -> None:
        if self.looking:
            self.notes.append(Note(core, dims, hard))
        else:
            self.unite(core, collapsed(core, dims))

    def settle(self) -> bool:
        """Unite what was noted, what must be first; a choice that came too late is left out.

        Returns:
            Whether anything was chosen, so that the record has to be gone through again; if not, what waited is frozen.
        """
        self.looking = False
        self.chosen |= bool(self.notes)
        if self.chosen:
            self.crossed.clear()
        else:
            for core, reason in self.waiting:
                self._stays(core, reason)
        self.waiting.clear()
        for note in sorted(self.notes, key=lambda one: not one.hard):
            still = along(self._narrow(note.core))
            if note.dims & still and (note.hard or still - note.dims):
                self.unite(note.core, collapsed(note.core, note.dims))
        self.notes.clear()
        return self.chosen
