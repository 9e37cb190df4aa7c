"""What a training loop calls around each step of the optimizer."""

from __future__ import annotations

from typing import Any, Protocol


class TrainingHook(Protocol):
    """Prunes while a model trains; any training loop can drive it with two lines.

    ```python
    loss.backward()
    hook.observe()
    optimizer.step()
    hook.step()
    ```
    """

    @property
    def settled(self) -> bool:
        """Whether the schedule has reached its end: the final sparsity, and no more changes.

        Returns:
            True from the step on at which the final plan is in force.
        """
        ...

    @property
    def plan(self) -> Any:
        """The plan in force.

        Returns:
            Which units stay now; None before the first one.
        """
        ...

    def observe(self) -> None:
        """Look at the gradients: after ``backward()``, before ``optimizer.step()``."""
        ...

    def step(self) -> None:
        """Move the schedule on and set what is pruned back to zero: after ``optimizer.step()``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on later, as `secateur.training.save_state` takes it.

        Returns:
            A tree of tensors and plain values.
        """
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Args:
            state: What `state_dict` returned.
        """
        ...
