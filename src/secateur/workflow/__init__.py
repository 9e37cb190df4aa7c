"""Workflows: the main job and the demonstration, each leaving a run folder that can be gone on with."""

from secateur.workflow.demo import Demo, run_demo
from secateur.workflow.dense import Dense, Numerics
from secateur.workflow.finetune import FinetuneJob, earlier_run, finetune_task
from secateur.workflow.prune import PruneJob, check_job, prune_task
from secateur.workflow.recovery import Recovery
from secateur.workflow.run_folder import RunFolder, open_run, read_results, read_run

__all__ = [
    "Demo",
    "Dense",
    "FinetuneJob",
    "Numerics",
    "PruneJob",
    "Recovery",
    "RunFolder",
    "check_job",
    "earlier_run",
    "finetune_task",
    "open_run",
    "prune_task",
    "read_results",
    "read_run",
    "run_demo",
]
