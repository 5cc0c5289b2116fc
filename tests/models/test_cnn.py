"""The CNN family: sizes, taps, gradients and errors."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.models import CNN

MNIST = (1, 28, 28)


@pytest.mark.parametrize(
    ("shape", "classes", "widths", "padding", "count"),
    [
        (MNIST, 10, (8, 12, 20), 0, 6690),  # the paper's MNIST teacher
        (MNIST, 10, (5, 2, 31), 0, 1725),  # and student
        ((3, 32, 32), 10, (8, 12, 20), 0, 8 * 76 + 12 * 201 + 20 * (12 * 25 + 1) + 210),
        ((2, 28, 40), 3, (1, 2, 5), 1, 51 + 2 * 26 + 5 * (2 * 5 * 8 + 1) + 18),
    ],
)
def test_parameter_counts_are_those_of_the_printed_formula(shape, classes, widths, padding, count):
    model = CNN(shape, classes, widths=widths, padding=padding)
    assert model.parameter_count == sum(p.numel() for p in model.parameters()) == count
    assert model(torch.zeros(2, *shape)).shape == (2, classes)


def test_forward_is_the_documented_stack_of_layers():
    torch.manual_seed(0)
    model, images = CNN(MNIST, 10, widths=(5, 2, 31)), torch.randn(4, *MNIST)
    w = dict(model.named_parameters())
    f, x = torch.nn.functional, images
    for stage in (0, 3):
        x = f.conv2d(x, w[f"convolutions.{stage}.weight"], w[f"convolutions.{stage}.bias"])
        x = f.max_pool2d(x.relu(), 2)
    features = f.linear(x.flatten(1), w["hidden.0.weight"], w["hidden.0.bias"]).relu()
    logits = f.linear(features, w["output.weight"], w["output.bias"])
    torch.testing.assert_close(model(images), logits)
    torch.testing.assert_close(model.features(images), features)
    both = model.logits_and_features(images)
    assert torch.equal(both[0], model(images)) and torch.equal(both[1], model.features(images))
    assert features.shape == (4, model.feature_dim) and features.min() == 0 < features.max()


def test_gradients_reach_every_parameter():
    torch.manual_seed(2)
    model = CNN(MNIST, 10)
    logits, features = model.logits_and_features(torch.randn(16, *MNIST))
    (logits.square().mean() + features.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("size", "padding", "works"), [(8, 0, 2), (1, 2, 3)])
def test_too_small_an_image_names_the_padding_that_works(size, padding, works):
    with pytest.raises(ValueError, match=f"{size} x {size} .* Use padding={works} "):
        CNN((1, size, size), 10, padding=padding)
    assert CNN((1, size, size), 10, padding=works)(torch.zeros(1, 1, size, size)).shape == (1, 10)


def test_impossible_sizes_are_refused():
    for arguments, said in (
        (((28, 28), 10), r"image_shape \(C, H, W\) must be 3"),
        ((MNIST, 0), "classes"),
        ((MNIST, 10, (8, 12, 0)), "widths"),
        ((MNIST, 10, (8, 12, 20), -1), "padding"),
    ):
        with pytest.raises(ValueError, match=said):
            CNN(*arguments)


def test_wrong_images_are_refused_with_the_expected_shape():
    model = CNN(MNIST, 10)
    with pytest.raises(ValueError, match=r"\(n, 1, 28, 28\), got \(2, 3, 28, 28\)"):
        model(torch.zeros(2, 3, 28, 28))
    with pytest.raises(TypeError, match="normalise"):
        model(torch.zeros(2, *MNIST, dtype=torch.uint8))
