"""Knobs turned, students watched, adapters alone, and points moved in the plane."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy import stats

import qrkd_lab as ql
from qrkd_lab.relations import pairwise_distances
from qrkd_lab.studies.compare import compare
from qrkd_lab.teaching.experiments import (
    CHANGES,
    as_points,
    changed,
    coincidences,
    downhill,
    encoded,
    fall_in_words,
    fit_adapter,
    force_in_words,
    knob_summary,
    loss_in_words,
    plane_kernel,
    pull,
    record_snapshots,
    relation_value,
    remark,
    same_at_all_values,
    size_of,
    sweep_students,
    teacher_points,
    verdict,
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    table = sweep_students("digits", "bandwidth", (None, 0.5), 2, "smoke", 1, runs, qubits=3)
    return runs, table


def test_differences_are_to_the_reference_of_the_same_seed(swept):
    runs, table = swept
    assert list(table["value"]) == [None, None, 0.5, 0.5] and set(table["knob"]) == {"bandwidth"}
    study = compare("digits", ["rkd", "qrkd"], 2, "smoke", 1, runs, progress=False, qubits=3,
                    bandwidth=0.5)  # fmt: skip
    assert study.notes[0].startswith("6 runs reused, 0 trained")  # it is the same study
    found = study.results.set_index(["arm", "seed"])["test_accuracy"]
    part = table[table["value"] == 0.5].set_index("seed")
    for seed in (0, 1):
        assert part.loc[seed, "test_accuracy"] == found["qrkd", seed]
        ahead = found["qrkd", seed] - found["rkd", seed]
        assert part.loc[seed, "test_accuracy_difference"] == ahead
    assert (part["bandwidth"] == 0.5).all() and "trained" in table.attrs["notes"][0]


def test_a_knob_that_the_reference_uses_is_refused(swept):
    with pytest.raises(ValueError, match="temperature changes rkd too"):
        sweep_students("digits", "temperature", (1.0, 2.0), 1, "smoke", 1, swept[0])


def by_hand(rows):
    columns = ["knob", "value", "seed", "test_accuracy", "test_accuracy_difference"]
    table = pd.DataFrame([("w", v, s, a, d) for v, s, a, d in rows], columns=columns)
    table["value"] = pd.Series([row[0] for row in rows], dtype=object)  # None is a value
    return table


TABLE = by_hand([
    *((None, s, 0.9 + d, d) for s, d in enumerate((0.01, 0.02, 0.03))),
    *((1.0, s, 0.8 + d, d) for s, d in enumerate((-0.1, -0.11, -0.12))),
    *((2.0, s, 0.7 + d, d) for s, d in enumerate((0.0, 0.01, -0.01))),
])  # fmt: skip


def test_a_summary_has_the_interval_of_each_value():
    found = knob_summary(TABLE)
    assert list(found.index) == [None, 1.0, 2.0]
    first = found.iloc[0]
    test = stats.ttest_1samp([0.01, 0.02, 0.03], 0.0)
    assert (first["low"], first["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert first["p"] == pytest.approx(2 * test.pvalue)  # Holm: the second smallest of three
    assert found["seeds"].tolist() == [3, 3, 3]


def test_with_two_seeds_there_is_a_mean_only():
    found = knob_summary(TABLE[TABLE["seed"] < 2])
    assert found["mean"].notna().all() and found[["low", "high", "p"]].isna().all(axis=None)


def test_friedman_asks_whether_the_knob_matters_at_all():
    wide = TABLE["test_accuracy"].to_numpy().reshape(3, 3)
    assert same_at_all_values(TABLE) == stats.friedmanchisquare(*wide).pvalue
    assert math.isnan(same_at_all_values(TABLE[TABLE["seed"] < 2]))
    assert math.isnan(same_at_all_values(TABLE.assign(test_accuracy=0.5)))


ARMS = ("scratch", "qrkd", "rbf")


@pytest.fixture(scope="module")
def bench():
    return ql.load_benchmark("digits", "smoke", epochs=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return ql.compare("digits", ARMS, 1, "smoke", runs_dir=place, progress=False, epochs=2)


@pytest.fixture(scope="module")
def films(bench, study):
    return record_snapshots(bench, ARMS, 0, bench.model(study.runs[0]), count=20)


def test_the_students_are_those_of_a_study(study, films):
    for run in study.runs[1:]:
        live = films[run.settings["arm"]].model.state_dict()
        assert all(torch.equal(live[name], value) for name, value in run.weights().items())


def test_each_epoch_is_kept_and_the_last_is_the_model(bench, films):
    film = films["qrkd"]
    assert film.epochs == (0, 1, 2) and film.features.shape[:2] == (3, 20)
    part = bench.validation[:20]
    assert torch.equal(film.features[0], bench.predict(bench.student(0), part).features)
    assert torch.equal(film.features[-1], bench.predict(film.model, part).features)
    assert torch.equal(film.labels, part.labels)
    assert torch.equal(film.adapters[-1], film.relation.encoder.student_map.detach())
    assert not torch.equal(film.adapters[0], film.adapters[1])
    assert repr(film) == "Snapshots(qrkd seed 0, 3 of 20 samples)"


def test_matrices_go_through_the_adapter_of_their_epoch_or_a_given_relation(films):
    film = films["qrkd"]
    own, through = film.matrices(), film.matrices(film.relation)
    assert own.shape == (3, 20, 20)
    torch.testing.assert_close(own[-1], through[-1])
    assert not torch.allclose(own[0], through[0])
    target = film.relation.teacher(film.teacher_features)
    assert torch.equal(film.teacher_matrix(), target)
    assert film.alignments()[-1] == pytest.approx(ql.centred_alignment(own[-1], target))


def test_an_arm_without_kernel_needs_a_view(films):
    film = films["scratch"]
    assert film.relation is None and film.adapters is None
    with pytest.raises(ValueError, match="'scratch' has no kernel term.*fit_adapter"):
        film.matrices()
    assert film.matrices(films["qrkd"].relation).shape == (3, 20, 20)


def test_features_align_without_any_encoder(films):
    film = films["scratch"]
    x, t = film.features[1].double(), film.teacher_features.double()
    found = film.feature_alignments()
    assert len(found) == 3
    assert found[1] == pytest.approx(ql.centred_alignment(x @ x.T, t @ t.T))
    assert found[0] == films["rbf"].feature_alignments()[0]  # the same student at the start


def test_a_dead_student_aligns_with_nothing(films):
    dead = replace(films["qrkd"], features=torch.zeros_like(films["qrkd"].features))
    assert dead.feature_alignments() == dead.alignments() == [0.0, 0.0, 0.0]


GENERATOR = torch.Generator().manual_seed(0)
TAUGHT = torch.randn(60, 8, generator=GENERATOR)
LEARNT = TAUGHT @ torch.randn(8, 10, generator=GENERATOR)  # a linear map of the teacher


def relation(kind="adapter", control=None):
    encoder = ql.Encoder(8, 10, 4, kind, seed=3)
    return ql.KernelRelation(ql.FidelityKernel("iqp", qubits=4, bandwidth=0.3), encoder, control)


def test_it_lowers_the_loss_and_changes_only_its_copy():
    given = relation()
    before = given.encoder.student_map.detach().clone()
    fresh = fit_adapter(given, LEARNT, TAUGHT, steps=0)
    fitted = fit_adapter(given, LEARNT, TAUGHT, steps=60)
    first, last = (relation_value(r, LEARNT, TAUGHT).item() for r in (fresh, fitted))
    assert last < 0.5 * first
    assert torch.equal(given.encoder.student_map, before)
    assert torch.equal(fitted.teacher(TAUGHT), given.teacher(TAUGHT))


def test_the_same_seed_gives_the_same_adapter_and_no_control_is_kept():
    one, other = (fit_adapter(relation(control="detached"), LEARNT, TAUGHT, 5) for _ in range(2))
    assert torch.equal(one.encoder.student_map, other.encoder.student_map)
    assert one.control is None
    third = fit_adapter(relation(), LEARNT, TAUGHT, 5, seed=1)
    assert not torch.equal(one.encoder.student_map, third.encoder.student_map)


def test_students_of_another_width_can_be_seen_too():
    fitted = fit_adapter(relation(), LEARNT[:, :7], TAUGHT, 2)
    assert fitted.student(LEARNT[:, :7]).shape == (60, 60)


def test_the_student_gets_no_gradient():
    x = LEARNT.clone().requires_grad_()
    given = relation()
    relation_value(given, x, TAUGHT).backward()
    assert x.grad is None and given.encoder.student_map.grad.abs().sum() > 0


def test_wrong_features_are_told():
    with pytest.raises(ValueError, match="no adapter to train"):
        fit_adapter(relation("projection"), LEARNT, TAUGHT)
    with pytest.raises(ValueError, match="same samples, got 5 .* and 60"):
        fit_adapter(relation(), LEARNT[:5], TAUGHT)


POINTS = torch.tensor([[10.0, 20.0], [14.0, 20.0], [14.0, 24.0], [10.0, 26.0]], dtype=torch.float64)
close = torch.testing.assert_close


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("seed", [0, 20])
def test_teachers_are_seeded_centred_of_size_one_and_well_apart(n, seed):
    points = teacher_points(n, seed)
    assert points.equal(teacher_points(n, seed)) and not points.equal(teacher_points(n, seed + 1))
    assert points.mean(0).abs().max() < 0.006 and size_of(points) == pytest.approx(1, abs=0.012)
    apart = pairwise_distances(points) + 9 * torch.eye(n)
    assert apart.min() > 0.1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_begins_at_nothing_goes_on_steadily_and_says_how_far(name):
    close(changed(POINTS, name, 0.0), POINTS)
    near, far = changed(POINTS, name, 0.5), changed(POINTS, name, 1.0)
    assert (name == "same") == far.equal(POINTS)
    assert (changed(POINTS, name, 0.501) - near).abs().max() < 0.1
    said = {CHANGES[name].words(strength) for strength in (0.0, 0.5, 1.0)}
    assert len(said) == (1 if name in ("same", "shift") else 3)


def test_changes_are_what_they_are_called():
    centre = POINTS.mean(0)
    x = POINTS - centre
    close(changed(POINTS, "rotation") - centre, torch.stack([-x[:, 1], x[:, 0]], 1))
    close(changed(POINTS, "reflection") - centre, x * torch.tensor([-1, 1]))
    close(changed(POINTS, "scaling") - centre, 1.8 * x)
    close(changed(POINTS, "shear") - centre, x + 0.8 * x[:, 1:] * torch.tensor([1, 0]))
    close(
        changed(POINTS, "shift") - POINTS,
        (size_of(POINTS) * centre.new_tensor([0.7, 0.5])).expand(4, 2),
    )
    close(changed(POINTS, "line")[:, 1], centre[1].expand(4))
    close(changed(POINTS, "point"), centre.expand(4, 2))
    close(changed(POINTS, "coincident"), POINTS[[0, 0, 2, 3]])
    close(changed(POINTS, "swap"), POINTS[[1, 0, 2, 3]])
    close(changed(POINTS, "swap", 0.5)[0], POINTS[:2].mean(0))


def test_random_places_follow_the_seed():
    assert changed(POINTS, "random", seed=1).equal(changed(POINTS, "random", seed=1))
    assert not changed(POINTS, "random", seed=1).equal(changed(POINTS, "random", seed=2))


def test_the_points_given_stay_as_they_are():
    before = POINTS.clone()
    for name in CHANGES:
        changed(POINTS, name)
    assert POINTS.equal(before)


def test_coincident_points_are_found():
    assert coincidences(POINTS) == []
    assert coincidences(POINTS[[0, 1, 0, 3]]) == [(0, 2)]
    assert size_of(torch.zeros(3, 2)) == 1


@pytest.mark.parametrize(
    "values, said",
    [
        ([[0, 0], [1, 1]], "3 to 20 points .* got 2"),
        ([[0.0]] * 3, r"expected shape \(n, 2\), .* got \(3, 1\)"),
        ([0, 1, 2], r"got \(3,\)"),
        ([[0, 0], [1, 1], [math.nan, 2]], "NaN or infinity in row 2"),
        ([[0, 0], [1, math.inf], [2, 2]], "NaN or infinity in row 1"),
        ([[0, 0]] * 21, "got 21"),
        ("many", "expected n points in the plane"),
        ([[0, 0], [1]], "expected n points in the plane"),
    ],
)
def test_what_are_no_points_is_told(values, said):
    with pytest.raises(ValueError, match=f"student: .*{said}"):
        as_points(values, "student")


def test_wrong_numbers_and_names_are_told():
    with pytest.raises(ValueError, match="expected 5 points, as the teacher has, got 4"):
        as_points(POINTS, "student", 5)
    with pytest.raises(ValueError, match="unknown change 'turn'; choose one of same, shift"):
        changed(POINTS, "turn")
    with pytest.raises(ValueError, match="strength: expected a number from 0 to 1, got 1.5"):
        changed(POINTS, "line", 1.5)
    with pytest.raises(ValueError, match="n: expected a whole number from 3"):
        teacher_points(2)


TEACHER = teacher_points(5, 0)
USUAL = {"distance": 1.0, "angle": 2.0}


def said_of(name, strength=1.0):
    student = changed(TEACHER, name, strength)
    return verdict(student, TEACHER, pull(student, TEACHER, {}).losses)


def test_losses_are_those_of_the_package():
    student = changed(TEACHER, "shear")
    found = pull(student, TEACHER, {"distance": 1.0, "angle": 2.0, "kernel": 3.0})
    kernel = ql.kernel_loss(encoded(student), encoded(TEACHER), plane_kernel()).item()
    distance, angle = ql.distance_loss(student, TEACHER), ql.angle_loss(student, TEACHER)
    assert found.losses["distance"] == distance.item() and found.losses["angle"] == angle.item()
    assert found.losses["kernel"] == pytest.approx(kernel, abs=1e-5)
    assert found.total == pytest.approx(distance.item() + 2 * angle.item() + 3 * kernel, abs=1e-4)


@pytest.mark.parametrize("name", ["distance", "angle", "kernel"])
def test_the_gradient_is_that_of_the_weighted_sum(name):
    student, weights = changed(TEACHER, "random"), {name: 1.5}
    found = pull(student, TEACHER, weights)
    for i, k in ((0, 0), (3, 1)):
        moved = [student.clone(), student.clone()]
        for x, h in zip(moved, (1e-5, -1e-5)):
            x[i, k] += h
        up, down = (pull(x, TEACHER, weights).total for x in moved)
        assert found.gradient[i, k].item() == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["shift", "rotation", "reflection", "scaling"])
def test_distances_and_angles_are_blind_to_a_change_of_coordinates(name):
    student = changed(TEACHER, name, 1.0 if name == "reflection" else 0.4)
    losses = pull(student, TEACHER, {}).losses
    assert losses["distance"] < 1e-9 and losses["angle"] < 1e-9
    blind, _, _ = verdict(student, TEACHER, losses).partition(" blind to it")
    assert "distances" in blind and "angles" in blind


def test_the_verdict_names_who_sees_what():
    assert said_of("same") == "No point moved: every relation is the teacher's"
    assert said_of("rotation") == (
        "Every point moved; distances and angles are blind to it, the kernel sees it"
    )
    assert said_of("line", 0.5) == (
        "Every point moved; the kernel is blind to it, distances and angles see it"
    )
    assert said_of("scaling") == (
        "Every point moved; distances, angles and the kernel are blind to it"
    )
    assert said_of("coincident") == "1 of 5 points moved; distances, angles and the kernel see it"


def test_the_verdict_goes_by_numbers_and_not_by_names():
    row = torch.tensor([[0.0, 0], [1, 0], [3, 0], [4, 0]], dtype=torch.float64)
    other = row**1.5
    losses = pull(other, row, {}).losses
    assert verdict(other, row, losses).startswith("2 of 4 points moved; angles are blind to it")
    losses = {"distance": 9e-7, "angle": 1.1e-6, "kernel": 0.0}
    said = verdict(changed(TEACHER, "shear"), TEACHER, losses)
    assert said == "Every point moved; distances and the kernel are blind to it, angles see it"


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_every_gradient_is_finite_and_bounded(name, strength):
    student = changed(TEACHER, name, strength)
    found = pull(student, TEACHER, USUAL)
    assert torch.isfinite(found.gradient).all() and found.lengths.max() < 2
    found = pull(student, TEACHER, {"kernel": 1.0})  # a spread of 0 is divided by sqrt(1e-5)
    assert torch.isfinite(found.gradient).all() and found.lengths.max() < 1e5**0.5


def test_downhill_goes_down_and_remembers_the_way():
    student = changed(TEACHER, "shear")
    path, losses = downhill(student, TEACHER, USUAL, 0.2, 30)
    assert len(path) == len(losses) == 31 and path[0].equal(student)
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.05 * losses[0]
    assert losses[5] == pull(path[5], TEACHER, USUAL).total
    torch.testing.assert_close(
        path[1], student - 0.2 * pull(student, TEACHER, USUAL).gradient, rtol=0, atol=1e-3
    )


def test_downhill_does_not_depend_on_the_unit():
    student = changed(TEACHER, "shear")
    _, small = downhill(student, TEACHER, USUAL, 0.2, 5)
    _, large = downhill(100 * student, 100 * TEACHER, USUAL, 0.2, 5)
    assert large == pytest.approx(small)


def test_points_on_a_line_stay_on_it():
    path, losses = downhill(changed(TEACHER, "line"), TEACHER, USUAL, 0.5, 40)
    assert path[-1][:, 1].std() < 1e-6 and losses[-1] > 0.5


def test_what_is_odd_is_said():
    def said(student, weights=USUAL):
        return remark(student, TEACHER, pull(student, TEACHER, weights))

    assert said(TEACHER) == said(changed(TEACHER, "shear")) == ""
    assert said(TEACHER, {}) == "All weights are 0: there is no loss, and nothing pulls."
    assert said(changed(TEACHER, "point")).startswith("All points are in one place")
    longest = pull(changed(TEACHER, "coincident"), TEACHER, USUAL).lengths.max()
    coincident = said(changed(TEACHER, "coincident"))
    assert coincident.startswith("Points 0 and 1 coincide: ") and f"{longest:.2g}." in coincident
    path, _ = downhill(changed(TEACHER, "line"), TEACHER, USUAL, 0.5, 60)
    assert "a local minimum or a saddle" in said(path[-1])


def test_losses_and_forces_are_put_in_words():
    found = pull(changed(TEACHER, "shear"), TEACHER, USUAL)
    said = loss_in_words(found)
    assert said.startswith(
        f"Loss {found.total:.4f} = 1 · {found.losses['distance']:.4f} (distance)"
    )
    assert f"0 · {found.losses['kernel']:.4f} (kernel)" in said
    assert f"The gradient is {found.gradient.norm():.2g} long" in force_in_words(found)
    assert f"at point {int(found.lengths.argmax())} alone" in force_in_words(found)
    assert "next to nothing pulls" in force_in_words(pull(TEACHER, TEACHER, USUAL))
    assert force_in_words(pull(TEACHER, TEACHER, {})) == ""


def test_the_fall_of_the_loss_is_put_in_words():
    assert fall_in_words([]) == fall_in_words([0.4]) == ""
    assert fall_in_words([0.4, 0.3]) == "The last step lowered the loss by 0.1."
    assert (
        fall_in_words([0.3, 0.4]) == "The last step raised the loss by 0.1: the step is too long."
    )
    assert fall_in_words([0.3, 0.3]) == "The last step left the loss as it was."
    assert fall_in_words([0.4 - 0.01 * i for i in range(12)]).startswith("The last step lowered")
    assert "local minimum" in fall_in_words([0.9, *[0.2] * 11])
    assert "local minimum" not in fall_in_words([0.9, *[1e-5] * 11])


def test_wrong_weights_are_told():
    with pytest.raises(ValueError, match="unknown relation 'angles'; choose from distance, angle"):
        pull(TEACHER, TEACHER, {"angles": 1.0})
    for weight in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="angle: expected a weight >= 0"):
            pull(TEACHER, TEACHER, {"angle": weight})
