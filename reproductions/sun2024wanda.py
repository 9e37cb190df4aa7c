"""Sun et al. (2024), Wanda: a language model pruned by magnitude times input norm, in one shot.

What the paper reports, for LLaMA: of weights pruned without any update or training, those of least `|w| ||x||` cost far
less perplexity than those of least `|w|`, at half of the weights, at 4:8 and at 2:4.

Here: SmolLM2-135M, whose stored weights have 4 bits, on the reference topics of Python. Every linear layer in the
blocks loses half of its weights; the embedding, which is the head too, stays. Wanda goes layer by layer, with the norms
of what the pruned layers before put out, on 32 windows of 256 tokens; without a pattern the weights of each output
compete. The perplexity is that of 64 other windows, of other topics. A model this small and this text are no LLaMA on
WikiText: what is measured again is the order of the methods.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from _language import PATTERNS, perplexities, run
from _reproduction import Claim

PAPER = "Sun et al. 2024, A Simple and Effective Pruning Approach for Large Language Models"
SEEDS = (0,)
METHODS = ("magnitude", "wanda")


def claims(measured: dict[str, Any]) -> list[Claim]:
    """What must come out."""
    dense = measured["dense"]["value"]
    found = []
    for pattern in PATTERNS:
        wanda, magnitude = (fmean(perplexities(measured, method, pattern)) for method in ("wanda", "magnitude"))
        found.append(
            Claim(
                f"perplexity at {pattern}: dense, Wanda, magnitude",
                "in this order, each higher than the one before",
                f"{dense:.2f}, {wanda:.2f}, {magnitude:.2f}",
                dense < wanda < magnitude,
            )
        )
    return found


def main() -> None:
    """Measure what is missing, print the rows, write the result if it is whole."""
    run("sun2024wanda", PAPER, __doc__, SEEDS, METHODS, claims)


if __name__ == "__main__":
    main()
