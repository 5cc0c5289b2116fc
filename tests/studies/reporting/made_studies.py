"""Records of whole studies for the tests of the report: true settings, invented scores."""

from __future__ import annotations

from dataclasses import replace

from tests.studies.records.made_runs import made_run

RKD = (0.90, 0.92, 0.93, 0.95)
BETTER = (0.92, 0.95, 0.95, 0.976)  # than RKD, on every seed
WORSE = (0.88, 0.89, 0.91, 0.92)
SAME = (0.91, 0.91, 0.94, 0.94)


def made_runs(benchmark="mnist", metric="test_accuracy", alignments=(), **arms):
    """The runs of a study: a score a seed for each arm; ``alignments``: arm to the same."""
    found, aligned = [], dict(alignments)
    higher = "perplexity" not in metric
    for arm, scores in arms.items():
        for seed, score in enumerate(scores):
            run = made_run(arm, seed, benchmark)
            metrics = {metric: score, "test_agreement": 0.5}
            if arm in aligned:
                metrics |= {
                    "kernel_alignment": aligned[arm][seed],
                    "teacher_kernel_spread": 0.25,
                    "teacher_kernel_rank": 7.0,
                }
            epochs = [{"epoch": 1, "kernel": 0.5}, {"epoch": 2, "kernel": 0.25}]
            found.append(
                replace(
                    run,
                    metrics=metrics,
                    metric={"name": metric, "higher_is_better": higher},
                    history=epochs if "kernel_weight" in run.settings else run.history,
                    seconds={"train": 2.0 if arm == "qrkd" else 1.0, "evaluate": 1.0},
                )
            )
    return found


def perplexities(scores):
    """The same order of better and worse, for a metric of which less is better."""
    return tuple(100 / score for score in scores)
