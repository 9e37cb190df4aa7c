"""What a run measures beside accuracy: sizes in bytes, distributions of weights, the machine."""

from __future__ import annotations

import platform
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from secateur.granularity import weight_layers
from secateur.plan import Plan
from secateur.plan.plan import COLUMNS
from secateur.version import __version__

BINS = 61


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """Several runs as one number and its spread.

    Args:
        values: One for each seed.

    Returns:
        Mean, standard deviation (of the sample; 0 for a single value), and the values.

    Example:
        >>> mean_and_spread([1.0, 3.0])
        {'mean': 2.0, 'spread': 1.4142135623730951, 'each': [1.0, 3.0]}
    """
    array = np.asarray(values, dtype=float)
    spread = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return {"mean": float(array.mean()), "spread": spread, "each": [float(value) for value in values]}


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """The prunable weights of a model.

    Args:
        model: The model.

    Returns:
        Copies on the CPU, by name of the layer.
    """
    return {layer.name: model.get_parameter(layer.parameter).detach().cpu().clone() for layer in weight_layers(model)}


def sizes(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Bytes that the prunable weights take, dense and in sparse forms, all counted on the real tensors.

    Args:
        before: Dense weights by layer.
        after: Pruned weights by layer.

    Returns:
        Rows of name, bytes, note.
    """
    return [
        {"name": "dense, float32", "bytes": _dense(before), "note": "4 bytes a weight"},
        {"name": "dense, deflated", "bytes": _deflated(before), "note": "zlib, level 9"},
        {"name": "pruned, CSR", "bytes": _csr(after), "note": "values, 32-bit columns, row pointers"},
        {"name": "pruned, bitmask", "bytes": _bitmask(after), "note": "one bit a weight, then the values"},
        {"name": "pruned, deflated", "bytes": _deflated(after), "note": "zlib, level 9"},
    ]


def smaller_form(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Bytes of the prunable weights of a smaller network.

    Args:
        weights: By layer.

    Returns:
        A row of name, bytes, note.
    """
    return {"name": "smaller, float32", "bytes": _dense(weights), "note": "dense, without the channels that left"}


def _dense(weights: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in weights.values())


def _deflated(weights: Mapping[str, Tensor]) -> int:
    return sum(len(zlib.compress(value.numpy().tobytes(), 9)) for value in weights.values())


def _csr(weights: Mapping[str, Tensor]) -> int:
    rows = (scipy.sparse.csr_matrix(value.flatten(1).numpy()) for value in weights.values())
    return sum(row.data.nbytes + row.indices.nbytes + row.indptr.nbytes for row in rows)


def _bitmask(weights: Mapping[str, Tensor]) -> int:
    return sum(
        -(-value.numel() // 8) + int(torch.count_nonzero(value)) * value.element_size() for value in weights.values()
    )


def distributions(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Any]:
    """Histograms of every layer's weights before pruning, and of those that are not zero after it.

    Args:
        before: Dense weights by layer.
        after: Pruned weights by layer.

    Returns:
        For each layer the edges of the bins and two lists of counts.

    Example:
        >>> found = distributions({"fc": torch.tensor([-1.0, 0.0, 1.0])}, {"fc": torch.tensor([-1.0, 0.0, 0.0])})
        >>> sum(found["fc"]["before"]), sum(found["fc"]["after"])
        (3, 1)
    """
    return {name: _histogram(dense.numpy().ravel(), after[name].numpy().ravel()) for name, dense in before.items()}


def _histogram(dense: Any, pruned: Any) -> dict[str, Any]:
    left = pruned[pruned != 0]
    reach = float(max(np.abs(dense).max(), np.abs(left).max(initial=0.0), 1e-12))
    edges = np.linspace(-reach, reach, BINS + 1)
    counts = [np.histogram(values, edges)[0].tolist() for values in (dense, left)]
    return {"edges": edges.tolist(), "before": counts[0], "after": counts[1]}


def layer_table(plan: Plan) -> dict[str, Any]:
    """The plan's table as data.

    Args:
        plan: The plan.

    Returns:
        Columns and rows.
    """
    return {"columns": list(COLUMNS), "rows": [part.row() for part in plan.parts]}


def machine() -> dict[str, Any]:
    """What ran it.

    Returns:
        Device in words, versions.
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({platform.machine()})"
    threads = torch.get_num_threads()
    versions = {"secateur": __version__, "torch": torch.__version__, "python": platform.python_version()}
    return {"device": f"{device}, {threads} thread{'s' if threads > 1 else ''}", "versions": versions}
