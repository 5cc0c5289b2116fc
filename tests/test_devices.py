"""Devices: which one is picked, and what is said where memory runs out."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.devices import OutOfMemory, memory_advice


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


def test_images_have_no_sequence_length_to_lower():
    with pytest.raises(OutOfMemory) as caught, memory_advice(64):
        raise MemoryError
    assert "64 samples" in str(caught.value) and "sequence" not in str(caught.value)


def test_a_real_allocation_that_cannot_be_made():
    with pytest.raises(OutOfMemory), memory_advice(8, 8):
        torch.empty(2**60, dtype=torch.uint8)
