"""Devices: which one is picked, and what is said where memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.devices import (
    OutOfMemory,
    default_arithmetic,
    memory_advice,
    one_thread,
    pick_device,
)
from qrkd_lab.studies.group import lockstep, make_learner


def test_a_device_is_picked_or_named_as_missing():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="none of torch's"):
        pick_device("gpu0")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="not available on this machine"):
            pick_device("cuda")


def test_a_lack_of_memory_becomes_advice():
    def fail(error):
        with memory_advice(32, 128):
            raise error

    torch_says = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"
    for error in (RuntimeError(torch_says), MemoryError(), torch.OutOfMemoryError("CUDA: full")):
        with pytest.raises(OutOfMemory, match="32 sequences of 128.*batch_size or sequence_length"):
            fail(error)
    with pytest.raises(OutOfMemory, match="batch_size=16 and twice the accumulation"):
        fail(MemoryError())
    with pytest.raises(RuntimeError, match="^something else$"):
        fail(RuntimeError("something else"))
    with pytest.raises(OutOfMemory) as caught, memory_advice(64):
        torch.empty(2**60, dtype=torch.uint8)  # images have no sequence length to lower
    assert "64 samples" in str(caught.value) and "sequence" not in str(caught.value)


# Switches that somebody may have turned before


@contextmanager
def put(call: Callable, value: object, default: object) -> Iterator[None]:
    call(value)
    try:
        yield
    finally:
        call(default)


def attribute(of: object, name: str, value: object, default: object) -> AbstractContextManager:
    return put(lambda it: setattr(of, name, it), value, default)


BACK = torch.backends
SWITCHES = {
    "medium": lambda: put(torch.set_float32_matmul_precision, "medium", "highest"),
    "tf32": lambda: attribute(BACK.cuda.matmul, "allow_tf32", True, False),
    "deterministic": lambda: put(torch.use_deterministic_algorithms, True, False),
    "without oneDNN": lambda: attribute(BACK.mkldnn, "enabled", False, True),
    "float64": lambda: put(torch.set_default_dtype, torch.float64, torch.float32),
    "default device": lambda: put(torch.set_default_device, "meta", None),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "bf16 by its newer name": lambda: attribute(BACK, "fp32_precision", "bf16", "none"),
    "threads": lambda: put(torch.set_num_threads, 2, torch.get_num_threads()),
}


def state() -> list[object]:
    """All that can be asked."""
    asked = [
        torch.get_float32_matmul_precision, torch.get_default_dtype, torch.get_default_device,
        torch.get_deterministic_debug_mode, torch.get_num_threads, torch.is_grad_enabled,
        torch.is_inference_mode_enabled, lambda: torch.is_autocast_enabled("cpu"),
        lambda: BACK.cudnn.benchmark, lambda: BACK.cudnn.allow_tf32, lambda: BACK.mkldnn.enabled,
    ]  # fmt: skip
    found = []
    for ask in asked:
        try:
            found.append(ask())
        except RuntimeError:  # set by another name
            found.append("by another name")
    return found


def weights() -> dict[str, torch.Tensor]:
    """What two arms end in after an epoch on the digits, from data to weights."""
    benchmark = ql.load_benchmark(
        "digits", "smoke", train_size=96, validation_size=20, qubits=2, batch_size=32
    )
    with one_thread(torch.device("cpu")):
        teacher = benchmark.teacher(0).eval()
        arms = [benchmark.settings.replace(arm=arm) for arm in ("rkd", "qrkd")]
        learners = [make_learner(benchmark, settings, teacher) for settings in arms]
        list(lockstep(benchmark, learners, teacher, epochs=1))
        return {
            f"{one.settings.arm} {name}": value.clone()
            for one in learners
            for name, value in one.model.state_dict().items()
        }


@pytest.fixture(scope="module")
def usual():
    return weights()


@pytest.mark.parametrize("kind", SWITCHES)
def test_no_switch_of_torchs_changes_a_training(usual, kind):
    """A record names none of them, so two records of one key would differ."""
    with ExitStack() as stack:
        stack.enter_context(SWITCHES[kind]())
        before = state()
        found = weights()
        assert state() == before, "as it was left"
        with default_arithmetic():  # where the processor has no use for another
            assert torch.get_float32_matmul_precision() == "highest"
    assert found.keys() == usual.keys()
    assert all(torch.equal(found[name], usual[name]) for name in usual)
