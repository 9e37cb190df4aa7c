"""Print docs/names.md: from the terms of the literature to imports, papers and tests."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Terms of lectures and papers, in the order in which a course meets them, and where each is found.
TERMS = (
    ("pruning: minimise loss under a bound on nonzero weights", "Budget"),
    ("pruning ratio, sparsity", "Budget"),
    ("synapse (a single weight)", "granularity.weight"),
    ("neuron (a row of a linear layer)", "granularity.filter"),
    ("which weights go together, and who competes", "Units"),
    ("keep the best of every scope", "select"),
    ("fine-grained, unstructured pruning", "granularity.weight"),
    ("vector-level pruning", "granularity.vector"),
    ("pattern-based pruning, N:M sparsity, 2:4", "granularity.pattern"),
    ("kernel patterns (PCONV)", "granularity.kernel_pattern"),
    ("pattern library of a trained model (PatDNN)", "granularity.natural_patterns"),
    ("kernel-level pruning", "granularity.kernel"),
    ("filter pruning, structured pruning", "granularity.filter"),
    ("structured pruning, coupled channels (DepGraph)", "granularity.channel"),
    ("attention heads", "granularity.head"),
    ("a rule for an operation of one's own", "dependency.register_rule"),
    ("the smaller dense model", "shrink"),
    ("the smaller model beside the whole one: MACs, parameters, latency", "report"),
    ("a smaller model as a file", "save"),
    ("a smaller model from a file", "restore"),
    ("batch-norm re-estimation (EagleEye)", "reconstruction.reestimate"),
    ("channel pruning by LASSO regression (He 2017)", "reconstruction.lasso"),
    ("greedy channel selection by the next layer (ThiNet)", "reconstruction.thinet"),
    ("least-squares reconstruction of outputs", "reconstruction.least_squares"),
    ("reconstruction error of each layer", "reconstruction.errors"),
    ("SparseGPT", "reconstruction.sparsegpt"),
    ("pruning layer by layer on the inputs of the pruned model", "reconstruction.layerwise"),
    ("channel permutation for N:M sparsity", "reconstruction.permuted"),
    ("input channels of a layer", "granularity.input_channel"),
    ("block sparsity", "granularity.block"),
    ("magnitude-based pruning, element, L1, L2, Lp norm", "criteria.magnitude"),
    ("random pruning, the baseline", "criteria.random"),
    ("scaling-based pruning, batch-norm scales (Network Slimming)", "criteria.bn_scale"),
    ("percentage-of-zero pruning, APoZ (Network Trimming)", "criteria.apoz"),
    ("geometric median (FPGM)", "criteria.fpgm"),
    ("weights and activations (Wanda)", "criteria.wanda"),
    ("first-order Taylor pruning", "criteria.taylor"),
    ("connection sensitivity (SNIP)", "criteria.snip"),
    ("movement pruning", "criteria.movement"),
    ("Optimal Brain Damage, saliency from curvature", "criteria.obd"),
    ("saliency added up weight by weight", "criteria.elementwise"),
    ("scores normalised per layer", "criteria.normalized"),
    ("sums of criteria", "criteria.weighted"),
    ("calibration data, statistics", "calibrate"),
    ("diagonal of the Hessian, second derivatives sent backwards", "statistics.FullRecursion"),
    ("the same without second derivatives of activations", "statistics.Recursion"),
    ("diagonal of the generalised Gauss-Newton matrix", "statistics.Exact"),
    ("diagonal of the Fisher information, by drawing labels", "statistics.MonteCarlo"),
    ("diagonal of the Hessian, by random signs", "statistics.Hutchinson"),
    ("diagonal of the Gauss-Newton matrix, by random signs", "statistics.HutchinsonGGN"),
    ("empirical Fisher information, squared gradients", "statistics.EmpiricalFisher"),
    ("uniform pruning", "allocation.uniform"),
    ("global threshold", "allocation.global_"),
    ("ratios by hand", "allocation.fixed"),
    ("Erdos-Renyi kernel", "allocation.erdos_renyi"),
    ("layer-adaptive magnitudes", "allocation.lamp"),
    ("shapes of what runs", "workload.workload"),
    ("shapes after pruning, without running it", "workload.resize"),
    ("multiply-accumulates (MACs; FLOPs are twice that)", "cost.macs"),
    ("number of parameters", "cost.parameters"),
    ("method x granularity x allocation", "Pruner"),
    ("which units stay: the mask", "Plan"),
    ("masking, zeros in place", "mask"),
    ("one-shot pruning", "schedules.one_shot"),
    ("linear schedule", "schedules.linear"),
    ("gradual pruning, cubic schedule", "schedules.cubic"),
    ("iterative pruning", "schedules.iterative"),
    ("several schedules", "schedules.join"),
    ("pruning while training", "GradualPruning"),
    ("retraining with the mask held", "training.KeepZeros"),
    ("fine-tuning at a small learning rate", "finetune"),
    ("L1 regularisation", "training.l1"),
    ("L2 regularisation", "training.l2"),
    ("group lasso", "training.group_lasso"),
    ("L1 on batch-norm scales (Network Slimming)", "training.bn_l1"),
    ("smooth L1, Huber", "training.smooth_l1"),
    ("polarisation of batch-norm scales", "training.polarization"),
    ("growing regularisation: the penalty (GReg)", "training.growing"),
    ("growing regularisation while training (GReg-1, GReg-2)", "training.GrowingRegularization"),
    ("a rate that falls along a cosine, after a rise", "training.rates.cosine"),
    ("learning-rate rewinding", "training.rates.rewound"),
    ("weight rewinding, lottery ticket", "training.rewind"),
    ("knowledge distillation", "training.distill"),
    ("dropout ratio adjustment", "training.adjusted_dropout"),
    ("a penalty in place of weight decay", "training.undecayed"),
    ("model, data, loss and metric", "Task"),
    ("handwritten digits", "tasks.digits"),
    ("Fashion-MNIST", "tasks.fashion"),
    ("a small language model, SmolLM2", "tasks.smollm"),
    ("perplexity", "tasks.perplexity"),
    ("unwanted mail, MiniLM", "tasks.spam"),
    ("LeNet-300-100", "tasks.networks.lenet_300_100"),
    ("LeNet-5", "tasks.networks.lenet_5"),
    ("VGG", "tasks.networks.vgg_small"),
    ("ResNet-20", "tasks.networks.resnet_20"),
    ("ResNet with bottlenecks", "tasks.networks.resnet_20_bottleneck"),
    ("MobileNetV1, depthwise-separable convolution", "tasks.networks.mobilenet_v1"),
    ("laws for a granularity of one's own", "testing.check_granularity"),
    ("laws for a criterion of one's own", "testing.check_criterion"),
)


def found(path: str) -> Any:
    """What a path below the package stands for."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"secateur.{module}" if module else "secateur"), name)


def paper(thing: Any) -> str:
    """The first reference of a docstring, on one line."""
    text = inspect.getdoc(thing) or ""
    section = re.search(r"^Reference:\n((?:    .*\n?)+)", text, re.MULTILINE)
    if section is None:
        return ""
    return " ".join(section[1].split()).partition(";")[0].replace("|", "\\|").rstrip(".")


def tests(path: str) -> str:
    """The test file that calls a thing most often; of what no test calls, the one that names it most often."""
    files = {file: file.read_text() for file in sorted((ROOT / "tests").rglob("test_*.py"))}
    name = re.escape(path.rpartition(".")[2])
    kind = getattr(found(path), "kind", name)  # how `calibrate` is asked for a statistic, or `obd` for a curvature
    for word in (rf"\b{name}\(", rf'"({name}|{kind}|{kind.removeprefix("curvature_")})"'):
        counts = {file: len(re.findall(word, text)) for file, text in files.items()}
        best = max(counts, key=lambda file: counts[file])
        if counts[best]:
            return f"`{best.relative_to(ROOT).as_posix()}`"
    return ""


def reproductions(path: str) -> str:
    """The papers measured again that use a thing."""
    word = re.compile(rf"\b{re.escape(path.rpartition('.')[2])}\(")
    scripts = sorted((ROOT / "reproductions").glob("[a-z]*[0-9]*.py"))
    return ", ".join(f"`{script.stem}`" for script in scripts if word.search(script.read_text()))


def main() -> None:
    """Print the page."""
    print("# Names\n")
    print("From the terms of lectures and papers to what they are called here; `sc` is `import secateur as sc`.")
    print("`make pages` makes this page.\n")
    print("| term | here | paper | tested in | measured again in |")
    print("|---|---|---|---|---|")
    for term, path in TERMS:
        print(f"| {term} | `sc.{path}` | {paper(found(path))} | {tests(path)} | {reproductions(path)} |")


if __name__ == "__main__":
    main()
