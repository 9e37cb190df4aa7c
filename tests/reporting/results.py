"""Results as the runs leave them, shortened."""

from typing import Any

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--{{ 7 * 7 }}"


def _several(mean: float, spread: float) -> dict[str, Any]:
    return {"mean": mean, "spread": spread, "each": [mean - spread, mean, mean + spread]}


def _curve(accuracy: list[float], spread: list[float]) -> dict[str, Any]:
    return {"sparsity": [0.5, 0.9, 0.98], "accuracy": accuracy, "spread": spread, "each": [accuracy] * 3}


def _shape(name: str, pruned: tuple[float, float], tuned: tuple[float, float]) -> dict[str, Any]:
    return {"name": name, "weights_removed": 0.75, "pruned_only": _several(*pruned), "fine_tuned": _several(*tuned)}


def _network() -> dict[str, Any]:
    """What both kinds of run leave."""
    return {
        "task": "digits",
        "metric": "accuracy",
        "device": "CPU (x86_64), 2 threads",
        "versions": {"secateur": "0.1.0", "torch": "2.13.0"},
        "created": "2026-01-02T03:04:05+00:00",
        "seconds": 44.17,
        "layers": {
            "columns": ["group", "units kept>", "remark"],
            "rows": [["conv1", "112 of 144", ""], ["fc1", "2438 of 32768", ""]],
        },
        "weights": {
            "conv1": {"edges": [-1.0, -0.5, 0.0, 0.5, 1.0], "before": [0, 70, 70, 4], "after": [0, 50, 60, 2]},
            "fc1": {"edges": [-0.2, -0.1, 0.0, 0.1, 0.2], "before": [9, 16000, 16000, 8], "after": [9, 0, 12, 8]},
        },
        "sizes": [
            {"name": "dense, float32", "bytes": 228928, "note": "4 bytes a weight"},
            {"name": "pruned, CSR", "bytes": 46804, "note": "32-bit columns"},
            {"name": "pruned, deflated", "bytes": 28285, "note": "zlib, level 9"},
        ],
    }


def demo() -> dict[str, Any]:
    """Results of the demonstration."""
    return {
        **_network(),
        "kind": "demo",
        "command": "secateur demo",
        "seeds": [0, 1, 2],
        "settings": {"epochs": 3},
        "dense": {"accuracy": _several(0.974, 0.011), "weights": 57232, "parameters": 57482},
        "curves": {
            "pruned_only": _curve([0.975, 0.959, 0.386], [0.012, 0.011, 0.12]),
            "fine_tuned": _curve([0.977, 0.970, 0.897], [0.010, 0.002, 0.029]),
            "iterative": _curve([0.977, 0.971, 0.933], [0.010, 0.004, 0.008]),
        },
        "granularities": [
            _shape("weight", (0.971, 0.008), (0.971, 0.004)),
            _shape("kernel pattern, 2 of 9", (0.855, 0.07), (0.957, 0.012)),
        ],
        "shown": {"curve": "iterative", "sparsity": 0.9, "seed": 0},
    }


def prune() -> dict[str, Any]:
    """Results of a pruning."""
    return {
        **_network(),
        "kind": "prune",
        "seeds": [0],
        "settings": {"method": "magnitude", "levels": [0.5, 0.9]},
        "accuracy": {"dense": 0.974, "pruned_only": 0.612, "fine_tuned": 0.968},
        "sparsity": 0.9,
        "weights_left": 5723,
        "weights_total": 57232,
        "history": {"losses": [0.4, 0.2, 0.1], "validation": [0.93, 0.96, 0.966]},
    }


def hostile() -> dict[str, Any]:
    """Results of the demonstration in which every text that can be chosen means harm."""
    results = demo()
    results |= {"task": HOSTILE, "metric": HOSTILE, "command": HOSTILE, "device": HOSTILE, "created": HOSTILE}
    results["versions"] = {HOSTILE: HOSTILE}
    results["settings"] = {HOSTILE: HOSTILE, "list": [HOSTILE]}
    results["curves"][HOSTILE] = results["curves"].pop("fine_tuned")
    results["layers"] = {"columns": [HOSTILE], "rows": [[HOSTILE]]}
    results["weights"][HOSTILE] = results["weights"].pop("fc1")
    for row in (*results["granularities"], *results["sizes"]):
        row |= {"name": HOSTILE, "note": HOSTILE}
    return results


def channels() -> dict[str, Any]:
    """Results of a pruning in which channels left."""

    def row(name: str, macs: list[int], **more: Any) -> dict[str, Any]:
        change = {"inputs": [1, 1], "outputs": [16, 8], "parameters": [160, 80], "macs": macs}
        return {"name": name, "kind": "conv", **change, "remark": "", **more}

    rest = {"inputs": None, "outputs": None, "parameters": [0, 0], "kind": "attention"}
    latency = {"before": 0.0042, "after": 0.0031, "ratio": 1.35, "pairs": 100, "remark": ""}
    report = {
        "parameters": [57482, 29001],
        "macs": [1806336, 894122],
        "batch": 1,
        "layers": [
            row("conv1", [1800000, 890000]),
            row("attention", [3000, 1500], **rest),
            row("fc1", [3336, 2622], inputs=[16, 8], outputs=[10, 10], remark="it is the model's output"),
        ],
        "latency": [{"batch": 1, **latency}, {"batch": 64, "before": None, "after": None, "remark": "does not run"}],
        "device": "a processor, 2 cores, 1 thread",
    }
    accuracy = {"dense": 0.974, "pruned_only": 0.312, "reestimated": 0.905, "fine_tuned": 0.968}
    return {**prune(), "accuracy": accuracy, "report": report}
