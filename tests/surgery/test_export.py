"""Smaller models leave torch as any model does: by `torch.export`, and by ONNX where its packages are installed."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import secateur as sc
from secateur import allocation, criteria, granularity
from tests.zoo.table import ZOO

NAMES = (
    "conv-bn-relu chain",
    "flatten to linear",
    "residual block with projection",
    "depthwise separable",
    "shuffle by view and transpose",
    "weight norm",
    "scan of a state space",
)
SHAPES = ("conv-bn-relu chain", "depthwise separable")


def smaller(name: str) -> tuple[nn.Module, Tensor]:
    model, example = ZOO[name].build()
    pruner = sc.Pruner(criteria.random(), granularity.channel(example), allocation.uniform())
    small = sc.shrink(model, pruner.plan(model, sc.Budget(sparsity=0.5)))
    assert sum(one.numel() for one in small.parameters()) < sum(one.numel() for one in model.parameters())
    return small, example


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_model_equals_it_when_loaded_again(name: str) -> None:
    small, example = smaller(name)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whatever this version of torch says of its own serializer
        torch.export.save(torch.export.export(small, (example,)), file)
        file.seek(0)
        again = torch.export.load(file).module()
    with torch.no_grad():
        torch.testing.assert_close(again(example), small(example))


@pytest.mark.parametrize("name", SHAPES)
def test_an_exported_model_takes_batches_of_any_size(name: str) -> None:
    small, example = smaller(name)
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(small, (example,), dynamic_shapes=(batch,))
    several = torch.cat([example, example, example])
    with torch.no_grad():
        torch.testing.assert_close(exported.module()(several), small(several))


@pytest.mark.parametrize("name", NAMES)
def test_onnx_computes_the_same(name: str, tmp_path: Path) -> None:
    _, _, runtime = (pytest.importorskip(package) for package in ("onnx", "onnxscript", "onnxruntime"))
    small, example = smaller(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(small, (example,), tmp_path / "small.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    found = torch.from_numpy(session.run(None, {entry.name: example.numpy()})[0])
    with torch.no_grad():
        torch.testing.assert_close(found, small(example), rtol=1e-4, atol=1e-5)
