"""Frantar and Alistarh (2023), SparseGPT: a language model pruned in one shot, the weights that stay made up for it.

What the paper reports, for OPT and BLOOM: where the weights that stay are mended column by column, half of all weights
can go in one shot at little loss of perplexity, 4:8 and 2:4 at somewhat more, where magnitude pruning fails.

Here: SmolLM2-135M, whose stored weights have 4 bits, on the reference topics of Python, as in `sun2024wanda`, with the
same text to calibrate on. Damping 0.01, masks chosen for 128 columns at once, for m columns with N:M. Wanda, which
mends nothing, is measured beside it.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from _language import PATTERNS, perplexities, run
from _reproduction import Claim

PAPER = "Frantar and Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot"
SEEDS = (0,)
METHODS = ("magnitude", "wanda", "sparsegpt")


def claims(measured: dict[str, Any]) -> list[Claim]:
    """What must come out."""
    dense = measured["dense"]["value"]
    found, mended = [], []
    for pattern in PATTERNS:
        sparsegpt, wanda, magnitude = (
            fmean(perplexities(measured, method, pattern)) for method in ("sparsegpt", "wanda", "magnitude")
        )
        mended.append(sparsegpt)
        found.append(
            Claim(
                f"perplexity at {pattern}: dense, SparseGPT, Wanda, magnitude",
                "in this order; SparseGPT at most that of Wanda",
                f"{dense:.2f}, {sparsegpt:.2f}, {wanda:.2f}, {magnitude:.2f}",
                dense < sparsegpt <= wanda < magnitude,
            )
        )
    what = "perplexity of SparseGPT at 50 %, 4:8 and 2:4"
    shown = ", ".join(f"{value:.2f}" for value in mended)
    return [*found, Claim(what, "grows with what the pattern demands", shown, mended == sorted(mended))]


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    run("frantar2023sparsegpt", PAPER, __doc__, SEEDS, METHODS, claims)


if __name__ == "__main__":
    main()
