"""What modules of torch say of their sizes, after their parameters have been cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


def _linear(module: nn.Linear) -> dict[str, Any]:
    return {"out_features": module.weight.shape[0], "in_features": module.weight.shape[1]}


def _convolution(module: Any) -> dict[str, Any]:
    first, second = module.weight.shape[:2]
    if module.transposed:
        return {"in_channels": first, "out_channels": second * module.groups}
    return {"out_channels": first, "in_channels": second * module.groups}


def _batch_norm(module: Any) -> dict[str, Any]:
    held = module.weight if module.weight is not None else module.running_mean
    return {"num_features": held.shape[0]} if held is not None else {}


def _group_norm(module: nn.GroupNorm) -> dict[str, Any]:
    return {"num_channels": module.weight.shape[0]} if module.affine else {}


def _layer_norm(module: Any) -> dict[str, Any]:
    return {"normalized_shape": tuple(module.weight.shape)} if module.weight is not None else {}


def _embedding(module: nn.Embedding) -> dict[str, Any]:
    return {"num_embeddings": module.weight.shape[0], "embedding_dim": module.weight.shape[1]}


def _prelu(module: nn.PReLU) -> dict[str, Any]:
    return {"num_parameters": module.weight.shape[0]}


def _bilinear(module: nn.Bilinear) -> dict[str, Any]:
    out, one, other = module.weight.shape
    return {"out_features": out, "in1_features": one, "in2_features": other}


def _recurrent(module: Any) -> dict[str, Any]:
    gates = {"GRU": 3, "LSTM": 4, "GRUCell": 3, "LSTMCell": 4}.get(type(module).__name__, 1)
    weight = module.weight_ih if hasattr(module, "weight_ih") else module.weight_ih_l0
    return {"input_size": weight.shape[1], "hidden_size": weight.shape[0] // gates}


def _attention(module: nn.MultiheadAttention) -> dict[str, Any]:
    if module._qkv_same_embed_dim:
        return {"kdim": module.in_proj_weight.shape[1], "vdim": module.in_proj_weight.shape[1]}
    return {"kdim": module.k_proj_weight.shape[1], "vdim": module.v_proj_weight.shape[1]}


# What modules of torch say of their sizes, from the shapes of their parameters.
SHAPES: Mapping[type[nn.Module], Callable[[Any], dict[str, Any]]] = {
    nn.Linear: _linear,
    nn.modules.conv._ConvNd: _convolution,
    nn.modules.batchnorm._NormBase: _batch_norm,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.RMSNorm: _layer_norm,
    nn.Embedding: _embedding,
    nn.PReLU: _prelu,
    nn.Bilinear: _bilinear,
    nn.MultiheadAttention: _attention,
    nn.RNNBase: _recurrent,
    nn.RNNCellBase: _recurrent,
}


def say_sizes(module: nn.Module) -> dict[str, Any]:
    """What a module of torch's own classes says of its sizes.

    Args:
        module: Any module.

    Returns:
        Attributes as its parameters have them; nothing for other classes.

    Example:
        >>> say_sizes(nn.Conv2d(4, 8, 3, groups=2))
        {'out_channels': 8, 'in_channels': 4}
    """
    for kind, read in SHAPES.items():
        if isinstance(module, kind):
            return read(module)
    return {}


def refresh(module: nn.Module) -> None:
    """Let a module of torch's own classes say what its parameters are, and forget what it keeps beside them.

    Args:
        module: Any module.
    """
    for name, value in say_sizes(module).items():
        setattr(module, name, value)
    if isinstance(module, nn.RNNBase):
        module._flat_weights = [getattr(module, name) for name in module._flat_weights_names]
        module.flatten_parameters()
