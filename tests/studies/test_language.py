"""Language benchmarks: every token scored once, padding nowhere, models that others can use."""

from __future__ import annotations

import ast
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import qrkd_lab as ql
from qrkd_lab.data import DataError, TextData, Tokens
from qrkd_lab.data.text import encode, train_tokenizer
from qrkd_lab.devices import one_thread
from qrkd_lab.models.gpt2 import build_gpt2
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.group import lockstep, make_learner
from qrkd_lab.studies.language import LanguageBenchmark, SentimentBenchmark, Sequences, windows

CPU = torch.device("cpu")
WORDS = "the cat sat on a mat and saw two small green birds near that old house by day".split()


def lines(count: int, seed: int) -> list[str]:
    """Sentences with some order in them: each word suggests the next."""
    rng, text = np.random.default_rng(seed), []
    for _ in range(count):
        at = rng.integers(len(WORDS))
        words = []
        for _ in range(rng.integers(3, 12)):
            words.append(WORDS[at])
            at = (at + rng.integers(1, 3)) % len(WORDS)
        text.append(" ".join(words) + "\n")
    return text


def corpus(labels: bool = False) -> TextData:
    text = {part: lines(n, s) for s, (part, n) in enumerate(PARTS.items())}
    tokenizer = train_tokenizer(text["train"], 280)
    end = tokenizer.eos_token_id if labels else None
    parts = {
        part: encode(
            said, tokenizer, end, np.array([len(t) > 35 for t in said], int) if labels else None
        )
        for part, said in text.items()
    }
    classes = ("short", "long") if labels else ()
    return TextData("toy", "made here", "ab", tokenizer, **parts, classes=classes)


PARTS = {"train": 400, "validation": 40, "test": 40}
SMALL = {"sequence_length": 16, "tap_tokens": 24, "qubits": 3, "epoch_size": 48, "batch_size": 8}


def make(kind=LanguageBenchmark, **changes) -> LanguageBenchmark:
    sentiment = kind is SentimentBenchmark
    name = "imdb-sentiment" if sentiment else "ptb"
    settings = benchmark_settings(
        name, "smoke", train_size=None, validation_size=None, test_size=None, **SMALL | changes
    )
    data = corpus(sentiment)
    return kind(settings, data, CPU, len(data.tokenizer))


@pytest.fixture(scope="module")
def text():
    return make()


@pytest.fixture(scope="module")
def reviews():
    return make(SentimentBenchmark)


@pytest.fixture(scope="module")
def teacher(text):
    learner = make_learner(text, text.settings.replace(arm=TEACHER))
    with one_thread(CPU):
        list(lockstep(text, [learner], epochs=2))
    return learner.model.eval()


# --- perplexity


@torch.no_grad()
def straightforward(model, ids: list[int], first: int, length: int, stride: int) -> list[float]:
    """-log p of each token, one at a time, from the definition of the windows."""
    context, found = [first, *ids], []
    begin = 0
    for place, token in enumerate(ids):
        while place >= begin + length:  # the window that ends here begins a stride later
            begin = min(begin + stride, len(ids) - length)
        logits = model(torch.tensor([context[begin : place + 1]])).logits[0, -1]
        found.append(-logits.log_softmax(0)[token].item())
    return found


def test_the_perplexity_of_a_tiny_model_equals_a_straightforward_evaluation(text, teacher):
    part = text.test.first(9)
    (numbers,) = text.score([teacher], part)
    end = text.data.tokenizer.eos_token_id
    losses = straightforward(teacher, part.ids.tolist(), end, 16, 8)
    assert len(losses) == len(part)
    assert numbers["perplexity"] == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    written = "".join(lines(40, 2)[:9])
    words = len(written.split()) + 9
    assert numbers["word_perplexity"] == pytest.approx(math.exp(sum(losses) / words), rel=1e-4)


@pytest.mark.parametrize("count", [1, 16, 17, 24, 25, 100])
def test_every_token_is_scored_once_in_order_and_after_half_a_window(text, count):
    part = text.test
    part = Tokens(part.ids[:count], np.array([count]), np.array([count]))
    targets = torch.cat([targets for _, targets in text.passes(part)])
    assert targets.tolist() == part.ids.tolist()
    length = min(16, count)
    begins, new = windows(count, length, max(1, length // 2))
    assert new.sum() == count and new[0] == length and begins[-1] + length == count
    assert (new[1:] <= length // 2).all() and (np.diff(begins) <= length // 2).all()


def test_a_trained_model_beats_the_uniform_guess(text, teacher):
    fresh, trained = text.score([text.teacher(0), teacher], text.test, teacher)
    vocabulary = len(text.data.tokenizer)
    assert (
        trained["perplexity"] < 0.5 * fresh["perplexity"] and fresh["perplexity"] > vocabulary / 2
    )
    assert trained["agreement"] == 1.0 and trained["kl"] == 0.0 < fresh["kl"]


# --- batches


def test_targets_are_the_next_tokens_and_an_epoch_has_its_own_order(text):
    seen = []
    for inputs, targets in text.batches(0, 1, 8):
        follows = targets.view(len(inputs.tokens), -1)
        assert torch.equal(inputs.tokens[:, 1:], follows[:, :-1])
        assert inputs.lengths is None and len(inputs.tapped) == 24
        seen.append(inputs.tokens)
    assert sum(map(len, seen)) == 48 and len(seen) == text.steps(8) == 6
    again, other = next(text.batches(0, 1, 8))[0], next(text.batches(0, 2, 8))[0]
    assert torch.equal(seen[0], again.tokens) and not torch.equal(seen[0], other.tokens)


@pytest.mark.parametrize("how", ["mean", "last", "tokens"])
def test_padding_enters_no_loss_and_no_pool(reviews, how):
    """Padded with any token, or not at all, a review has the same logits and features."""
    b = replace(reviews, settings=reviews.settings.replace(tap=how, tap_tokens=24))
    model = b.student(0).eval()
    inputs, _ = next(b.batches(0, 1, 8))
    assert (inputs.lengths < inputs.tokens.shape[1]).any()
    said = b.outputs(model, inputs)
    for other in (3, 7):
        real = torch.arange(inputs.tokens.shape[1]) < inputs.lengths[:, None]
        changed = inputs._replace(tokens=torch.where(real, inputs.tokens, other))
        for mine, theirs in zip(said, b.outputs(model, changed)):
            assert torch.equal(mine, theirs)
    for i, length in enumerate(inputs.lengths.tolist()):
        if how == "tokens":
            break  # drawn from all reviews together
        alone = Sequences(inputs.tokens[i : i + 1, :length], torch.tensor([length]))
        single = b.outputs(model, alone)
        torch.testing.assert_close(said.features[i], single.features[0])
        torch.testing.assert_close(said.logits[i], single.logits[0])


def test_reviews_are_scored_once_each_and_tapped_at_real_tokens(reviews):
    labels = torch.cat([targets for _, targets in reviews.passes(reviews.test)])
    assert labels.tolist() == reviews.test.labels.tolist()
    (numbers,) = reviews.score([reviews.student(0)], reviews.test)
    assert set(numbers) == {"accuracy"}
    b = replace(reviews, settings=reviews.settings.replace(tap="tokens", tap_tokens=24))
    inputs, _ = next(b.batches(0, 1, 8))
    t = inputs.tokens.shape[1]
    assert (inputs.tapped % t < inputs.lengths[inputs.tapped // t]).all()
    assert len(inputs.tapped.unique()) == 24


# --- distillation


@pytest.fixture(scope="module")
def together(text, teacher):
    return trained(text, teacher, ("scratch", "kd", "rkd", "qrkd", "shuffled"))


def trained(text, teacher, arms, **changes):
    learners = [
        make_learner(text, text.settings.replace(arm=arm, **changes), teacher) for arm in arms
    ]
    with one_thread(CPU):
        list(lockstep(text, learners, teacher, epochs=1))
    return {one.settings.arm: one for one in learners}


@pytest.mark.parametrize("arm", ["kd", "shuffled"])
def test_an_arm_is_the_same_alone_as_beside_others(text, teacher, together, arm):
    alone = trained(text, teacher, [arm])[arm]
    assert alone.history == together[arm].history
    for name, weight in alone.model.state_dict().items():
        assert torch.equal(weight, together[arm].model.state_dict()[name]), name
    if arm == "kd":
        b = make(dropout=0.3)
        dropped = trained(b, teacher, ["kd"])["kd"].history
        assert dropped == trained(b, teacher, ["scratch", "rkd", "kd"])["kd"].history
        assert dropped != alone.history


def test_arms_train_on_reviews(reviews):
    arms = ("scratch", "kd", "rkd", "qrkd", "shuffled", "random_teacher")
    for learner in trained(reviews, reviews.teacher(0).eval(), arms).values():
        assert learner.failure is None and 0 <= learner.history[-1]["validation_accuracy"] <= 1


def test_the_cosine_schedule_warms_up_and_ends_near_nothing(text, teacher):
    learner = make_learner(text, text.settings.replace(arm="kd", epochs=50), teacher)
    rates = []
    for done in range(50 * text.steps(learner.settings.batch_size)):
        rates.append(learner.rate(done) / learner.settings.learning_rate)
    assert rates[0] == pytest.approx(1 / 9) and max(rates) == 1.0 == rates[9]
    assert rates[-1] < 1e-3 and rates == rates[:9] + sorted(rates[9:], reverse=True)


def test_bfloat16_is_used_where_it_is_asked_for(text):
    half = replace(text, settings=text.settings.replace(precision="bfloat16"))
    inputs, _ = next(text.batches(0, 1, 8))
    model = text.student(0)
    exact, rounded = text.outputs(model, inputs), half.outputs(model, inputs)
    assert rounded.logits.dtype == rounded.features.dtype == torch.float32
    assert 0 < (exact.logits - rounded.logits).abs().max() < 0.05


# --- models


def test_the_sizes_of_laptop_models_are_as_documented(text):
    s = benchmark_settings("ptb", "laptop")
    args = (s.sequence_length, 0.0, s.vocabulary)
    shapes = (s.teacher_layers, s.teacher_width), (s.student_layers, s.student_width)
    models = [build_gpt2(text.data.tokenizer, *shape, *args) for shape in shapes]
    assert [sum(p.numel() for p in one.parameters()) for one in models] == [3_700_224, 235_264]


@pytest.fixture
def folder(tmp_path, text):
    """A tiny GPT-2 with its tokenizer, as anybody might bring one."""
    model = build_gpt2(text.data.tokenizer, 1, 64, 32)
    model.save_pretrained(tmp_path / "mine")
    text.data.tokenizer.save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def penn_treebank(root, patch):
    """A corpus in Penn Treebank's layout, and a cache of its own; returns the folder of data."""
    patch.setenv("QRKD_CACHE_DIR", str(root / "cache"))
    patch.setattr("qrkd_lab.data.corpora.fetch", lambda *a, **k: None)
    home = root / "data" / "ptb"
    home.mkdir(parents=True, exist_ok=True)
    for i, (name, count) in enumerate(zip(("train", "valid", "test"), PARTS.values())):
        (home / f"ptb.{name}.txt").write_text("".join(lines(count, i)))
    return root / "data"


@pytest.fixture
def ptb(tmp_path, monkeypatch):
    return penn_treebank(tmp_path, monkeypatch)


FAST = {
    "vocabulary": 280, "train_size": None, "validation_size": 300, "test_size": 300,
    "epoch_size": 32, "clip_norm": None,
}  # fmt: skip
OWN = FAST | {"vocabulary": None}  # with a tokenizer of its own


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of text on a corpus in Penn Treebank's layout, and the folder of the data."""
    with pytest.MonkeyPatch.context() as patch:
        data = penn_treebank(tmp_path_factory.mktemp("study"), patch)
        options = {"scale": "smoke", "data_dir": data, "runs_dir": data / "runs", "progress": False}
        found = ql.compare("ptb", seeds=3, **options, **FAST)
        again = ql.compare("ptb", seeds=3, **options, **FAST)
    assert "15 runs reused, 0 trained" in again.notes[0]
    return found, data


def test_a_study_of_text_is_told_in_perplexities(study):
    found, _ = study
    assert found.runs[0].metric == {"name": "test_perplexity", "higher_is_better": False}
    frame = found.summary().frame
    assert list(frame.index) == ["teacher", "scratch", "kd", "rkd", "qrkd"]
    assert (frame["mean"] > 1).all() and (frame["word_perplexity"] > frame["mean"]).all()
    assert "perplexity" in found.plot().alt and "per word" in str(found)


def test_settings_set_to_none_come_back_and_other_data_are_refused(study, tmp_path, monkeypatch):
    found, data = study
    penn_treebank(data.parent, monkeypatch)
    back = ql.benchmark_of(found.runs[3], data).settings
    assert back.clip_norm is None and back.train_size is None and back.tap == "tokens"
    other = shutil.copytree(data / "ptb", tmp_path / "ptb") / "ptb.train.txt"
    other.write_text(other.read_text() + "one more line\n")
    with pytest.raises(DataError, match="are not those of"):
        ql.benchmark_of(found.runs[3], tmp_path)


def test_a_folder_of_text_is_a_benchmark(tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "my poems"
    folder.mkdir()
    for i, (name, count) in enumerate(zip(("train", "valid", "test"), PARTS.values())):
        (folder / f"{name}.txt").write_text("".join(lines(count, i)))

    def study():
        return ql.compare(str(folder), ("scratch", "rkd"), 1, "smoke", runs_dir=tmp_path / "runs",
                          progress=False, **FAST)  # fmt: skip

    found = study()
    assert len(found.runs) == 3 and found.runs[0].metric["name"] == "test_perplexity"
    assert "/" not in found.runs[0].settings["benchmark"]
    assert study().runs == found.runs


def test_a_teacher_from_a_checkpoint(ptb, folder, tmp_path, text):
    """Whose tokens and weights they are is part of the run; a random one has learnt nothing."""

    def study():
        return ql.compare(
            "ptb", ("random_teacher",), 1, "smoke", data_dir=ptb, runs_dir=tmp_path / "runs",
            progress=False, **OWN, teacher_model=str(folder), qubits=3,
        )  # fmt: skip

    first = study()
    teacher = first.runs[0].settings
    assert "teacher_layers" not in teacher and teacher["teacher_model"] == str(folder)
    assert first.results["test_perplexity"].between(1, 400).all()
    assert study().runs == first.runs
    b = ql.load_benchmark("ptb", "smoke", data_dir=ptb, teacher_model=str(folder), **OWN)
    given, a, again, other = (
        one.transformer.wte.weight
        for one in (b.teacher(0), *(b.untrained_teacher(seed) for seed in (0, 0, 1)))
    )
    assert torch.equal(a, again) and a.shape == given.shape
    assert not torch.equal(a, given) and not torch.equal(a, other)
    build_gpt2(text.data.tokenizer, 2, 64, 32).save_pretrained(folder)
    assert not {run.key for run in study().runs} & {run.key for run in first.runs}


def test_a_checkpoint_that_does_not_fit_is_refused(ptb, folder):
    def load(**more):
        return ql.load_benchmark(
            "ptb", "smoke", data_dir=ptb, teacher_model=str(folder), **OWN, **more
        )

    with pytest.raises(DataError, match="room for 32 tokens, sequence_length is 64"):
        load(sequence_length=64)
    file = folder / "model.safetensors"
    save_file({f"x.{n}": w for n, w in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(DataError, match="would be random"):
        load().teacher(0)
    larger = train_tokenizer(lines(400, 0) + ["xyzzy plugh frotz gnusto"] * 50, 300)
    larger.save_pretrained(folder)
    with pytest.raises(DataError, match="do not belong together"):
        load()


def test_an_exported_classifier_says_what_the_kit_says(tmp_path):
    from transformers import AutoModelForSequenceClassification

    b = make(SentimentBenchmark, batch_size=4)
    run = type("Run", (), {"settings": {"seed": 0, "arm": "kd"}})
    object.__setattr__(b, "model", lambda run: b.student(0).eval())
    out = b.export(run, tmp_path / "out")
    theirs = AutoModelForSequenceClassification.from_pretrained(out, dtype=torch.float32).eval()
    inputs, _ = next(b.batches(0, 1, 4))
    with torch.no_grad():
        mine = b.outputs(b.student(0).eval(), inputs).logits
        torch.testing.assert_close(theirs(inputs.tokens).logits, mine)
    assert theirs.config.id2label == {0: "short", 1: "long"}
    with pytest.raises(ValueError, match="exists: give a folder that is new or empty"):
        b.export(run, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "changes", "error", "says"),
    [
        ("imdb-sentiment", {"tap": "tokens", "tap_tokens": None}, ValueError, "tap_tokens is None"),
        ("ptb", {"vocabulary": None}, ValueError, "vocabulary is None"),
        ("ptb", {"validation_size": 10**9}, ValueError, "validation_size: expected at most"),
        ("ptb", {"teacher_widths": (1, 2, 3)}, ValueError, "is a setting of image benchmarks"),
        ("ptb", {"train_size": 100}, DataError, "one batch of 8: use a smaller batch_size"),
    ],
)
def test_what_a_text_cannot_do_without_or_with_is_said(ptb, name, changes, error, says):
    with pytest.raises(error, match=says):
        ql.load_benchmark(name, "smoke", data_dir=ptb, **FAST | changes)


def test_an_exported_student_works_without_the_kit(study, tmp_path, monkeypatch):
    found, data = study
    penn_treebank(data.parent, monkeypatch)
    run = next(run for run in found.runs if run.settings["arm"] == "kd")
    b = ql.benchmark_of(run, data)
    out = b.export(run, tmp_path / "student")
    ids = b.test.ids[:10].astype(int).tolist()
    with torch.no_grad():
        expected = b.model(run)(torch.tensor([ids])).logits[0, -1]
    code = f"""
import sys
sys.modules["qrkd_lab"] = sys.modules["pennylane"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline
model = AutoModelForCausalLM.from_pretrained({str(out)!r}, dtype=torch.float32)
print(model(torch.tensor([{ids}])).logits[0, -1, :5].tolist())
said = pipeline("text-generation", {str(out)!r})("the cat", max_new_tokens=5, do_sample=False)
print(repr(said[0]["generated_text"]))
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    numbers, said = map(ast.literal_eval, done.stdout.strip().splitlines())
    assert torch.tensor(numbers).allclose(expected[:5], atol=1e-5)
    assert said.startswith("the cat") and len(said) > len("the cat")


def test_an_unreachable_hub_says_which_files_to_put_where(ptb, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="(?s)vocab.json.*laptop"):
        ql.load_benchmark("ptb", "paper", data_dir=ptb)


# --- the real corpora


@pytest.mark.skipif("QRKD_DATA_DIR" not in os.environ, reason="needs QRKD_DATA_DIR")
@pytest.mark.parametrize("name", ["wikitext2", "imdb-sentiment"])  # ptb: see test_guards.py
def test_smoke_studies_of_the_real_corpora(name, tmp_path):
    study = ql.compare(name, ("scratch", "qrkd"), 1, "smoke", runs_dir=tmp_path, progress=False)
    assert len(study.runs) == 3 and np.isfinite(study.results[study.runs[0].metric["name"]]).all()
