"""Taps: any model's logits and the output of one of its layers, with gradient, without traces."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput

from qrkd_lab.losses import Outputs
from qrkd_lab.models.taps import Tapped


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5))


IMAGES = torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def test_logits_are_the_models_and_features_the_layers_and_no_hook_is_left():
    model = net()
    tapped = Tapped(model, "1")
    outputs = tapped(IMAGES)
    torch.testing.assert_close(outputs.logits, model(IMAGES))
    torch.testing.assert_close(outputs.features, model[1](model[0](IMAGES)).reshape(6, 12))
    assert tapped.model is model and not model[1]._forward_hooks
    assert {id(p) for p in tapped.parameters()} == {id(p) for p in model.parameters()}
    with pytest.raises(RuntimeError):
        tapped(IMAGES[:, :, :2])
    assert not model[1]._forward_hooks  # nor after an error


def test_without_a_name_the_input_of_the_last_linear_layer_is_tapped():
    model = net()
    outputs = Tapped(model)(IMAGES)
    torch.testing.assert_close(outputs.features, Tapped(model, "2")(IMAGES).features)
    torch.testing.assert_close(outputs.logits, model(IMAGES))
    hidden = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 3))
    with pytest.raises(ValueError, match="layer '1' gave .*: give pool='mean'"):
        Tapped(hidden)(IDS)
    assert Tapped(hidden, pool="last")(IDS).features.equal(hidden[0](IDS)[:, -1])
    assert Tapped(Says(lambda z: Outputs(z, z + 1)))(IDS).features.shape == (3, 3), "its own"
    with pytest.raises(ValueError, match="no nn.Linear: name the layer to tap, of 0, 1"):
        Tapped(nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()))(IMAGES)


class InPlace(nn.Module):
    """A block whose output is changed in place by what ``after`` does."""

    def __init__(self, after):
        super().__init__()
        torch.manual_seed(0)
        self.block, self.after, self.head = nn.Linear(4, 8), after, nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.after(self.block(x)))


ROWS = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("after", [nn.ReLU(inplace=True), lambda h: h.mul_(3).add_(1)])
def test_features_are_those_that_the_layer_gave_whatever_changes_them_later(after):
    model = InPlace(after)
    features, given = Tapped(model, "block")(ROWS).features, model.block(ROWS)
    assert torch.equal(features, given)
    assert not torch.equal(after(given.detach().clone()), given)  # it does change them
    ours, expected = (
        torch.autograd.grad(h.square().sum(), model.block.weight)[0] for h in (features, given)
    )
    torch.testing.assert_close(ours, expected)


class Says(nn.Module):
    """A classifier that returns its logits in another way; hidden states of tokens on the way."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head, self.how = nn.Embedding(9, 6), nn.Linear(6, 3), how

    def forward(self, ids, attention_mask=None):
        return self.how(self.head(self.embed(ids).mean(1)))


IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [0, 0, 7, 8]])
MASK = (IDS > 0).long()


@pytest.mark.parametrize(
    "how",
    [
        lambda z: z,
        lambda z: {"loss": z.sum(), "logits": z},
        lambda z: (z, z + 1),
        lambda z: Outputs(z, z + 1),
        lambda z: SequenceClassifierOutput(loss=z.sum(), logits=z),
    ],
)
def test_logits_are_taken_from_what_the_model_says(how):
    plain = Says(lambda z: z)
    outputs = Tapped(Says(how), "embed", pool="mean")(IDS)
    assert torch.equal(outputs.logits, plain(IDS))
    with pytest.raises(TypeError, match="the model gave a .*; expected logits"):
        Tapped(Says(lambda z: {"out": z}), "embed", pool="mean")(IDS)


@pytest.mark.parametrize("pool", ["mean", "last"])
@pytest.mark.parametrize("given", [lambda m: ((m,), {}), lambda m: ((), {"attention_mask": m})])
def test_hidden_states_are_pooled_over_tokens_and_padding_does_not_count(pool, given):
    model = Says(lambda z: z)
    rows, options = given(MASK)
    features = Tapped(model, "embed", pool=pool)(IDS, *rows, **options).features
    for row, ids in zip(features, IDS, strict=True):
        tokens = model.embed(ids[ids > 0])
        torch.testing.assert_close(row, tokens.mean(0) if pool == "mean" else tokens[-1])
    with torch.no_grad():
        model.embed.weight[0] = torch.nan
    again = Tapped(model, "embed", pool=pool)(IDS, *rows, **options).features
    torch.testing.assert_close(again, features)
    with pytest.raises(ValueError, match=r"attention_mask: expected \(3, 4\).*got \(3, 5\)"):
        Tapped(model, "embed", pool=pool)(IDS, attention_mask=torch.ones(3, 5))


def test_without_a_word_about_tokens_three_axes_are_refused():
    with pytest.raises(ValueError, match=r"gave \(3, 4, 6\): give pool='mean' or 'last'"):
        Tapped(Says(lambda z: z), "embed")(IDS)
    line, x = nn.Sequential(nn.Conv1d(2, 3, 2), nn.Flatten(), nn.Linear(9, 5)), torch.randn(6, 2, 4)
    features = Tapped(line, "0", pool="flatten")(x).features
    assert torch.equal(features, line[0](x).flatten(1))
    with pytest.raises(ValueError, match=r"gave \(6, 9\): .* no pool for another shape"):
        Tapped(line, "1", pool="mean")(x)
    with pytest.raises(ValueError, match="unknown pool 'max'; choose from mean, last, flatten"):
        Tapped(line, "0", pool="max")


@pytest.mark.parametrize("way", ["no grad", "frozen"])
@pytest.mark.parametrize(
    "module", [nn.Sequential(nn.Identity(), nn.BatchNorm1d(8)), nn.AlphaDropout(0.5)]
)
def test_a_model_that_is_only_asked_does_not_change_by_being_asked(module, way):
    model = InPlace(module).train()
    before = copy.deepcopy(model.state_dict())
    model.requires_grad_(way != "frozen")
    tapped = Tapped(model, "block")
    with torch.set_grad_enabled(way != "no grad"):
        with pytest.raises(RuntimeError, match=r"'after.*is in training mode and .*call \.eval"):
            tapped(ROWS)
        tapped.eval()
        assert torch.equal(tapped(ROWS).logits, model(ROWS))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused, self.twice = nn.LSTM(4, 2), nn.Linear(4, 2), nn.ReLU()
        self.same = self.twice
        self.number, self.rows = nn.Flatten(0), nn.Unflatten(0, (-1, 1))

    def forward(self, x):
        self.rows(self.number(x))
        return self.twice(self.same(self.used(x)[0]))


def test_what_cannot_be_tapped_is_told():
    with pytest.raises(ValueError, match="no layer 'fc'; choose from 0, 1, 2, 3"):
        Tapped(net(), "fc")
    for layer, says in (
        ("unused", "'unused' was run 0 times"),
        ("used", "'used' gave a tuple"),
        ("twice", "'twice' was run 2 times; expected one tensor"),
        ("same", "'same' was run 2 times"),
    ):
        with pytest.raises(RuntimeError, match=says):
            Tapped(Odd(), layer)(torch.zeros(3, 4))
    for layer, says in (("number", r"gave \(12,\)"), ("rows", "gave 12 rows beside 3 logits")):
        with pytest.raises(ValueError, match=says):
            Tapped(Odd(), layer)(torch.zeros(3, 4))
