"""Taps: any model's logits and the output of one of its layers, with gradient, without traces."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qrkd_lab as ql
from qrkd_lab.taps import Tapped


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))


IMAGES = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_logits_are_the_models_and_features_the_layers_in_one_row_a_sample():
    model = net()
    outputs = Tapped(model, "1")(IMAGES)
    torch.testing.assert_close(outputs.logits, model(IMAGES))
    torch.testing.assert_close(outputs.features, model[1](model[0](IMAGES)).reshape(6, 12))


def test_the_model_is_shared_and_keeps_no_hook():
    model = net()
    tapped = Tapped(model, "1")
    tapped(IMAGES)
    assert tapped.model is model and not model[1]._forward_hooks
    assert {id(p) for p in tapped.parameters()} == {id(p) for p in model.parameters()}
    with pytest.raises(RuntimeError):
        tapped(IMAGES[:, :, :2])
    assert not model[1]._forward_hooks  # nor after an error


def test_relations_of_tapped_features_teach():
    student, teacher = Tapped(net(), "1"), torch.randn(6, 7)
    ql.distance_loss(student(IMAGES).features, teacher).backward()
    assert student.model[0].weight.grad.abs().max() > 0
    assert student.model[3].weight.grad is None  # behind the tap


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.LSTM(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        return self.used(x)[0]


def test_what_cannot_be_tapped_is_told():
    with pytest.raises(ValueError, match="no layer 'fc'; choose from 0, 1, 2, 3"):
        Tapped(net(), "fc")
    with pytest.raises(RuntimeError, match="'unused' was not run"):
        Tapped(Odd(), "unused")(torch.zeros(3, 4))
    with pytest.raises(RuntimeError, match="'used' gave a tuple"):
        Tapped(Odd(), "used")(torch.zeros(3, 4))
