"""What the report's words mean, and what it cannot say."""

from __future__ import annotations

from collections.abc import Sequence

from qrkd_lab.arms import ARMS
from qrkd_lab.report import order_arms
from qrkd_lab.reporting.markdown import bullets, count, listed, table
from qrkd_lab.reporting.studies import Studies
from qrkd_lab.runs import Run
from qrkd_lab.study import Study
from qrkd_lab.trace import Trace

__all__ = ["limits", "words"]


def words(studies: Studies) -> list[str]:
    """A few words that the rest needs, and what each arm is."""
    arms = order_arms(arm for study in studies.values() for arm in study.results["arm"])
    rows = [[f"`{arm}`", ARMS[arm].meaning] for arm in arms if arm in ARMS]
    return [
        "## Words",
        bullets([
            "A large network, the **teacher**, helps to train a small one, the **student**. An "
            "**arm** is one way to do that; a **control** is an arm that changes one thing in "
            "`qrkd`, with a weight of its own.",
            "A **seed** fixes everything that is random: the teacher, the student's start, the "
            "order of the batches. All arms of a seed have the same, so they are compared seed by "
            "seed (**paired**), and what one teacher or start does to all arms cancels.",
            "A **95 % interval** is computed by a rule that catches the true mean in 95 of 100 "
            "such studies. **p** is how often chance alone would make a difference at least as "
            "large; **Holm** makes it larger where several questions are asked at once. Below "
            "0.05 this report says better or worse.",
            "Otherwise it says **no difference that these seeds could show**. That is not the "
            "same as no difference: more seeds might show one.",
            "**Points** are per cent of accuracy. **Perplexity** (ppl) is among how many tokens a "
            "language model is, in effect, undecided when it predicts the next; less is better.",
        ]),
        table(["arm", "the student ..."], rows),
    ]  # fmt: skip


def limits(studies: Studies, tunings: Sequence[Trace], left_out: Sequence[Run] = ()) -> list[str]:
    """What these records cannot say, as far as it can be read off them."""
    runs = [run for study in studies.values() for run in study.runs]
    seeds = {name: study.results["seed"].nunique() for name, study in studies.items()}
    scales = sorted({run.settings["scale"] for run in runs})
    largest = max(run.parameters for run in runs)
    tuned = {trace.benchmark for trace in tunings}
    untuned = [name for name in studies if name not in tuned]
    few = ", ".join(f"{name} {number}" for name, number in seeds.items())
    said = [
        f"Seeds: {few}. With so few, only effects that are large beside the spread from seed to "
        "seed can be seen, and the t-test takes the differences as normal, which so few cannot "
        "check.",
        f"Scale: {listed(scales)}. The largest network here has {count(largest, 'weight')}. What "
        "holds for networks of this size need not hold for larger ones.",
        "A seed repeats the training, not the data: each benchmark has one test part and one "
        "division into training and validation part. An interval says what other seeds would do on "
        "these data. Which data they are, and whether the official ones, is said under *What ran*.",
        "All arms are set against the same runs of `rkd`: a seed in which `rkd` did badly lifts "
        "all differences at once.",
        "The circuits are simulated exactly: no shots, no noise of a device.",
        "Circuits, sizes and weights are the kit's own; no number here is the paper's.",
        "The test part was scored once a run, after the last epoch; no epoch was picked.",
        "`scratch` has no weight to tune, and all arms of a benchmark share one learning rate, "
        "which may suit some better than others.",
    ]
    chose = (_chose(t, studies[t.benchmark]) for t in tunings if t.benchmark in studies)
    said += [sentence for sentence in chose if sentence]
    if untuned:
        said.append(
            f"No tuning is recorded for {listed(untuned)}: with other weights an arm might do "
            "better."
        )
    edge = [f"{t.benchmark} ({', '.join(t.at_edge)})" for t in tunings if t.at_edge]
    if edge:
        said.append(
            f"Some weights lie at the edge of what was tried: {listed(edge)}; the best may lie "
            "beyond."
        )
    if left_out:
        names = dict.fromkeys(run.settings["benchmark"] for run in left_out)
        said.append(
            f"Left out: {count(len(left_out), 'record')} on {listed(list(names))} that lie beside "
            "these and are not of the benchmark's default settings."
        )
    return ["## Limits", bullets(said)]


def _chose(trace: Trace, study: Study) -> str:
    """Whether seeds that chose the weights are among those that the answer rests on."""
    both = sorted({trial.seed for trial in trace.trials} & set(study.results["seed"]))
    if not both:
        return ""
    return (
        f"On {trace.benchmark} the weights were chosen by validation scores of "
        f"{'seed' if len(both) == 1 else 'seeds'} {listed([str(seed) for seed in both])}, which "
        "are among the seeds of the study."
    )
