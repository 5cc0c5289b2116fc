"""The taps, by their formulas; GPT-2's own sizes."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.data.tokenizer import train_tokenizer
from qrkd_lab.models.gpt2 import body, build_gpt2, tap

HIDDEN = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([4, 1, 3])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["to be or not to be, that is the question"], 260)


def test_mean_is_over_the_real_tokens():
    found = tap(HIDDEN, "mean", LENGTHS)
    for row, hidden, length in zip(found, HIDDEN, LENGTHS.tolist()):
        torch.testing.assert_close(row, sum(hidden[:length]) / length)
    torch.testing.assert_close(tap(HIDDEN, "mean"), sum(HIDDEN.unbind(1)) / 4)


def test_what_padding_holds_cannot_spoil_the_mean():
    spoiled = HIDDEN.clone()
    spoiled[1, 1:] = torch.nan
    assert torch.equal(tap(spoiled, "mean", LENGTHS), tap(HIDDEN, "mean", LENGTHS))


def test_last_is_the_last_real_token():
    assert torch.equal(
        tap(HIDDEN, "last", LENGTHS), torch.stack([HIDDEN[0, 3], HIDDEN[1, 0], HIDDEN[2, 2]])
    )
    assert torch.equal(tap(HIDDEN, "last"), HIDDEN[:, 3])


def test_tokens_are_the_positions_asked_for():
    found = tap(HIDDEN, "tokens", positions=torch.tensor([5, 0]))
    assert torch.equal(found, torch.stack([HIDDEN[1, 1], HIDDEN[0, 0]]))
    with pytest.raises(ValueError, match="needs positions"):
        tap(HIDDEN, "tokens")


def test_an_unknown_tap_lists_the_choices():
    with pytest.raises(ValueError, match="choose from mean, last, tokens"):
        tap(HIDDEN, "first")


def test_gpt2s_own_sizes_give_gpt2s_own_number_of_weights(tokenizer):
    """Radford et al.'s smallest model has 124,439,808 parameters; on no memory at all."""
    with torch.device("meta"):
        model = build_gpt2(tokenizer, 12, 768, 1024, vocabulary=50257)
    assert sum(weight.numel() for weight in model.parameters()) == 124_439_808
    assert model.config.n_head == 12


def test_head_and_body_make_the_models_own_logits(tokenizer):
    model = build_gpt2(tokenizer, 2, 64, 16).eval()
    tokens = torch.randint(260, (3, 16), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.lm_head(body(model, tokens)), model(tokens).logits)


def test_a_classifiers_logits_are_those_of_transformers(tokenizer):
    model = build_gpt2(tokenizer, 2, 64, 16, classes=2).eval()
    tokens = torch.randint(1, 200, (3, 16), generator=torch.Generator().manual_seed(0))
    mine = model.score(tap(body(model, tokens), "last", torch.tensor([16, 16, 16])))
    model.config.pad_token_id = 259
    torch.testing.assert_close(mine, model(tokens).logits)
