"""The exercise on the training step: right answers pass, mistakes get their hint."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.teaching.exercises import check_training_step
from qrkd_lab.teaching.exercises.training import STEP_MISTAKES, right_step


def learners(student, teacher, loss, optimizer, inputs, targets):
    with torch.no_grad():
        taught = teacher(inputs)
    total, terms = loss(student(inputs), taught, targets)
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
    return total.item()


def test_right_steps_pass():
    assert check_training_step(learners)
    assert check_training_step(right_step)


@pytest.mark.parametrize("hint", STEP_MISTAKES)
def test_each_mistake_gets_its_hint(hint):
    assert check_training_step(STEP_MISTAKES[hint]).text == hint


def with_graph(student, teacher, loss, optimizer, inputs, targets):
    total, _ = loss(student(inputs), teacher(inputs), targets)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total


def silent(*given):
    learners(*given)


def unmoved(student, teacher, loss, optimizer, inputs, targets):
    total, _ = loss(student(inputs), teacher(inputs), targets)
    total.backward()
    optimizer.zero_grad()
    optimizer.step()
    return total


def own_optimizer(student, teacher, loss, optimizer, inputs, targets):
    own = torch.optim.SGD(student.parameters(), lr=0.05)
    return learners(student, teacher, loss, own, inputs, targets)


def too_early(student, teacher, loss, optimizer, inputs, targets):
    with torch.no_grad():
        taught = teacher(inputs)
    total, _ = loss(student(inputs), taught, targets)
    optimizer.step()
    total.backward()
    return total


@torch.no_grad()
def all_without_graph(*given):
    return learners(*given)


@pytest.mark.parametrize(
    "f, said",
    [
        (with_graph, "under torch.no_grad()"),
        (silent, "return the total"),
        (unmoved, "no weight has moved"),
        (too_early, "first backward(), then step()"),
        (all_without_graph, "the student has no graph"),
        (own_optimizer, "the optimiser that are given"),
        (lambda *given: learners(*given) + 1, "but the total is"),
        (lambda *given: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_other_mistakes_are_told(f, said):
    answer = check_training_step(f)
    assert answer.state == "Not yet" and said in answer.text


@pytest.mark.parametrize("f", [None, lambda *given: None])
def test_no_answer_yet(f):
    assert check_training_step(f).state == "Not answered yet"
