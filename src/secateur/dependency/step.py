"""What a rule is given: one operation, its arguments by name, the labels of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.dependency.facets import Labelled, Shape
from secateur.dependency.meeting import together
from secateur.dependency.partition import Partition, Reason
from secateur.dependency.record import Call
from secateur.dependency.zeros import Zero


@dataclass(frozen=True)
class Step:
    """One operation.

    Args:
        partition: The labels so far.
        call: The operation.
        arguments: By the names of its schema, defaults filled in; a `Labelled` in place of every tensor.
        shapes: Of its results; None for a result that is no tensor.
        needed: Whether the model's output depends on it; else it only has to run.
    """

    partition: Partition
    call: Call
    arguments: Mapping[str, Any]
    shapes: tuple[Shape | None, ...]
    needed: bool = True

    def __getitem__(self, name: str) -> Any:
        """An argument.

        Args:
            name: As the operation's schema calls it.

        Returns:
            Its value, a `Labelled` for a tensor, a list for several; the default if it was left out.
        """
        return self.arguments[name]

    def get(self, name: str, default: Any = None) -> Any:
        """An argument that not every variant of the operation has.

        Args:
            name: As the operation's schema calls it.
            default: What if there is none.

        Returns:
            Its value.
        """
        return self.arguments.get(name, default)

    @property
    def shape(self) -> Shape:
        """Shape of the first result."""
        return self.shapes[0] or ()

    def tensors(self) -> list[Labelled]:
        """The labels of all tensors among the arguments.

        Returns:
            In order, those in lists too.
        """
        given = [value if isinstance(value, list | tuple) else (value,) for value in self.arguments.values()]
        return [one for several in given for one in several if isinstance(one, Labelled)]

    def reason(self, text: str) -> Reason:
        """Why this operation lets something stay.

        Args:
            text: In words.

        Returns:
            The reason, with the place in the model's code.
        """
        return Reason(text, str(self.call.op.overloadpacket), self.call.module, self.call.line)

    def fix(self, given: Labelled, dims: Iterable[int], text: str, *, choice: bool = False) -> Labelled:
        """See `Partition.fix`.

        Args:
            given: A tensor.
            dims: Along which its labels shall not vary.
            text: Why, in words.
            choice: Whether another dimension could have been chosen.

        Returns:
            The tensor after that.
        """
        return self.partition.fix(given, dims, self.reason(text), choice=choice)

    def statistic(self, given: Labelled, dims: Iterable[int], text: str) -> Labelled:
        """See `Partition.statistic`.

        Args:
            given: A tensor.
            dims: Along which a mean or variance is taken.
            text: Why something would be fixed, in words.

        Returns:
            The tensor after that.
        """
        return self.partition.statistic(given, dims, self.reason(text), self.call.results[0])

    def keep(self, given: Labelled, dims: Iterable[int]) -> Labelled:
        """See `Partition.keep`.

        Args:
            given: A tensor.
            dims: The dimensions that are chosen.

        Returns:
            The tensor after that.
        """
        return self.partition.keep(given, dims)

    def together(self, operands: Sequence[Labelled], shape: Shape, zero: Zero, text: str = "") -> Labelled:
        """See `meeting.together`.

        Args:
            operands: Tensors that broadcast to `shape`.
            shape: Of the result.
            zero: Whether the result is zero where labels are masked.
            text: Why something would be fixed; left out: it meets something fixed.

        Returns:
            The result.
        """
        reason = self.reason(text or "it meets a dimension that stays")
        return together(self.partition, operands, shape, reason, zero)


Rule = Callable[[Step], Sequence[Labelled | None] | Labelled]
"""Labels of the results of an operation: one for each, None for what is no tensor."""


def for_each(names: str, rule: Rule) -> dict[str, Rule]:
    """The same rule for several operations.

    Args:
        names: Of the operations, with spaces between them.
        rule: Their rule.

    Returns:
        A part of a table.
    """
    return dict.fromkeys(names.split(), rule)


def words(text: str) -> frozenset[str]:
    """Names of operations.

    Args:
        text: The names, with spaces between them.

    Returns:
        The names.
    """
    return frozenset(text.split())
