"""Gradients of terms: alone, right, zero where a term is cut off; measuring disturbs nothing."""

from __future__ import annotations

import pandas as pd
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.losses import Losses
from qrkd_lab.studies.group import lockstep, make_learner
from qrkd_lab.teaching.experiments import gradient_rows, term_gradients


@pytest.fixture(scope="module")
def bench():
    return ql.load_benchmark("digits", "smoke")


@pytest.fixture(scope="module")
def teacher(bench):
    return bench.teacher(0).eval()


def losses_of(bench, teacher, arm):
    learner = make_learner(bench, bench.settings.replace(arm=arm, seed=0), teacher)
    inputs, targets = next(bench.batches(0, 1, 32))
    with torch.no_grad():
        taught = bench.outputs(teacher, inputs)
    return learner, learner.loss(bench.outputs(learner.model, inputs), taught, targets)


def test_weighted_gradients_of_the_terms_add_up_to_the_total(bench, teacher):
    learner, losses = losses_of(bench, teacher, "qrkd")
    weights = list(learner.model.parameters())
    pulls = term_gradients(losses, weights)
    total = torch.autograd.grad(losses.total, weights)
    scale = {"task": 1.0, **learner.loss.weights}
    found = sum(scale[name] * pull for name, pull in pulls.items())
    torch.testing.assert_close(found, torch.cat([g.flatten() for g in total]))
    assert all(pull.norm() > 0 for pull in pulls.values())


def test_a_detached_term_has_none_although_it_asks_for_one(bench, teacher):
    learner, losses = losses_of(bench, teacher, "detached")
    assert losses.terms["kernel"].requires_grad  # the adapter's
    pulls = term_gradients(losses, list(learner.model.parameters()))
    assert not pulls["kernel"].any() and pulls["angle"].any()


def test_a_term_without_graph_counts_as_zero():
    w = torch.tensor([3.0, 1.0], requires_grad=True)
    losses = Losses(w.sum(), {"task": (w**2).sum(), "kernel": (w.detach() ** 2).sum()})
    found = term_gradients(losses, [w])
    assert found["task"].tolist() == [6.0, 2.0] and found["kernel"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("leaves", [[], [torch.zeros(2)]])
def test_leaves_must_ask_for_a_gradient(leaves):
    with pytest.raises(ValueError, match="student.parameters"):
        term_gradients(Losses(torch.zeros(()), {}), leaves)


def test_rows_say_norm_weight_and_direction_and_touch_nothing(bench, teacher):
    settings = bench.settings.replace(arm="qrkd", seed=0, kernel_weight=10.0)
    watched, alone = (make_learner(bench, settings, teacher) for _ in range(2))
    rows = pd.DataFrame(gradient_rows(bench, watched, teacher, 0, batches=2))
    assert all(p.grad is None for p in watched.model.parameters())
    for learner in (watched, alone):
        for epoch in lockstep(bench, [learner], teacher, epochs=1):
            if learner is watched:
                list(gradient_rows(bench, learner, teacher, epoch))
    same = zip(watched.model.parameters(), alone.model.parameters())
    assert all(torch.equal(a, b) for a, b in same)
    assert len(rows) == 10 and set(rows["batch"]) == {0, 1}
    kernel, task = rows[rows["term"] == "kernel"], rows[rows["term"] == "task"]
    assert kernel["weighted"].tolist() == pytest.approx((10 * kernel["norm"]).tolist())
    assert task["cosine"].tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
