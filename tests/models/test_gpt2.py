"""The taps, by their formulas; GPT-2's own sizes; checkpoints that lie, or would choose code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Model

from qrkd_lab.data import DataError
from qrkd_lab.data.text import train_tokenizer
from qrkd_lab.models.gpt2 import body, build_gpt2, pretrained_gpt2, tap
from qrkd_lab.seeds import seeded

HIDDEN = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([4, 1, 3])


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["to be or not to be, that is the question"], 260)


def test_taps_take_real_tokens_only():
    spoiled = HIDDEN.clone()
    spoiled[1, 1:] = torch.nan  # padding
    means = torch.stack([h[:n].sum(0) / n for h, n in zip(HIDDEN, LENGTHS)])
    torch.testing.assert_close(tap(spoiled, "mean", LENGTHS), means)
    torch.testing.assert_close(tap(HIDDEN, "mean"), sum(HIDDEN.unbind(1)) / 4)
    last = torch.stack([HIDDEN[0, 3], HIDDEN[1, 0], HIDDEN[2, 2]])
    assert torch.equal(tap(spoiled, "last", LENGTHS), last)
    assert torch.equal(tap(HIDDEN, "last"), HIDDEN[:, 3])
    found = tap(HIDDEN, "tokens", positions=torch.tensor([5, 0]))
    assert torch.equal(found, torch.stack([HIDDEN[1, 1], HIDDEN[0, 0]]))
    with pytest.raises(ValueError, match="needs positions"):
        tap(HIDDEN, "tokens")
    with pytest.raises(ValueError, match="choose from mean, last, tokens"):
        tap(HIDDEN, "first")


def test_logits_are_those_of_transformers(tokenizer):
    tokens = torch.randint(1, 200, (3, 16), generator=torch.Generator().manual_seed(0))
    model = build_gpt2(tokenizer, 2, 64, 16).eval()
    torch.testing.assert_close(model.lm_head(body(model, tokens)), model(tokens).logits)
    model = build_gpt2(tokenizer, 2, 64, 16, classes=2).eval()
    mine = model.score(tap(body(model, tokens), "last", torch.tensor([16, 16, 16])))
    model.config.pad_token_id = 259
    torch.testing.assert_close(mine, model(tokens).logits)


CODE = "from pathlib import Path; Path(__file__).with_name('ran').touch(); Mine = None\n"


@pytest.fixture
def folder(tokenizer, tmp_path):
    """A checkpoint of two blocks."""
    torch.manual_seed(0)
    build_gpt2(tokenizer, 2, 64, 16).save_pretrained(tmp_path / "own")
    return tmp_path / "own"


def configure(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def reweigh(folder, change):
    file = folder / "model.safetensors"
    held = load_file(file)
    change(held)
    save_file(held, file)


def logits(folder, tokenizer, **settings):
    with seeded(3, "teacher"):
        model = pretrained_gpt2(str(folder), tokenizer, 16, **settings).eval()
    return model.lm_head(body(model, torch.arange(16)[None]))


@pytest.mark.parametrize("classes", [None, 2])
def test_a_checkpoint_gives_the_weights_that_transformers_reads(folder, tokenizer, classes):
    from transformers import GPT2ForSequenceClassification, GPT2LMHeadModel

    kind = GPT2LMHeadModel if classes is None else GPT2ForSequenceClassification
    with seeded(3, "teacher"):
        mine = pretrained_gpt2(str(folder), tokenizer, 16, classes=classes).state_dict()
    with seeded(3, "teacher"):  # a new head comes from the same stream
        theirs = kind.from_pretrained(folder, dtype=torch.float32).state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def with_code(folder):
    """Everything by which transformers lets a folder choose code, or another reader."""
    kinds = {"AutoConfig": "mine.Mine", "AutoModelForCausalLM": "mine.Mine"}
    configure(folder, auto_map=kinds, attn_implementation="someone/kernel", quantization=1)
    (folder / "mine.py").write_text(CODE)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    (folder / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": "mine.Mine"}}')
    (folder / "generation_config.json").write_text('{"custom_generate": "mine"}')


def test_a_folder_chooses_no_code_and_asks_nothing(folder, tokenizer, monkeypatch):
    before = logits(folder, tokenizer)
    with_code(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert torch.equal(logits(folder, tokenizer), before)
    assert not (folder / "ran").exists() and not Path("ran").exists()


def test_what_changes_no_number_is_taken(folder, tokenizer):
    """Masks that older versions stored, several files, links."""
    before = logits(folder, tokenizer)
    reweigh(folder, lambda w: w.update({"transformer.h.0.attn.bias": torch.ones(1, 1, 16, 16)}))
    held = list(load_file(folder / "model.safetensors").items())
    names = ("a.safetensors", "b.safetensors")
    for name, part in zip(names, (held[:9], held[9:])):
        save_file({key.removeprefix("transformer."): tensor for key, tensor in part}, folder / name)
    places = {key: names[i >= 9] for i, (key, _) in enumerate(held)}
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    (folder / "a.safetensors").rename(folder.parent / "a")
    (folder / "a.safetensors").symlink_to("../a")  # as in the hub's own cache
    assert torch.equal(logits(folder, tokenizer), before)


def headless(folder):
    GPT2Model.from_pretrained(folder).save_pretrained(folder)


def test_a_missing_head_is_told(folder, tokenizer):
    before = logits(folder, tokenizer)
    headless(folder)
    with pytest.warns(UserWarning, match=r"without a language model's head \(GPT2Model\)"):
        assert torch.equal(logits(folder, tokenizer), before)
    pretrained_gpt2(str(folder), tokenizer, 16, classes=2)  # which has a head of its own
    configure(folder, tie_word_embeddings=False)
    with pytest.raises(DataError, match="1 are missing .* e.g. lm_head.weight"):
        pretrained_gpt2(str(folder), tokenizer, 16)


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


NORM = "transformer.ln_f.weight"


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: cut(f / "model.safetensors"), "could not be loaded.*\n.*fetch it again"),
        (lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
        (lambda f: reweigh(f, lambda w: w.pop(NORM)), f"1 are missing .*0 too many, e.g. {NORM}"),
        (lambda f: reweigh(f, lambda w: w.update({NORM: torch.ones(3)})), "could not be loaded"),
        (lambda f: configure(f, n_layer=1), "0 are missing .*11 too many, e.g. transformer.h.1"),
        (lambda f: configure(f, activation_function="mine.Mine"), "mine.Mine"),
        (lambda f: configure(f, model_type="llama"), "is a 'llama'; expected a GPT-2"),
        (lambda f: (f / "config.json").write_text("[" * 9999), "could not be loaded"),
    ],
)
def test_a_checkpoint_that_lies_is_refused_by_its_name(folder, tokenizer, harm, said):
    harm(folder)
    with pytest.raises(DataError, match=said) as error:
        pretrained_gpt2(str(folder), tokenizer, 16)
    assert os.fspath(folder) in str(error.value)
