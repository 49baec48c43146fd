"""Stored samples as pixels."""

from __future__ import annotations

import numpy as np
import pytest

from refine.samples import full_scale, lab_16, lab_signed, ramp


@pytest.mark.parametrize("bits", range(1, 17))
def test_ramp_keeps_the_ends(bits):
    """Nothing stays nothing, all ones become all ones, and every step is to the nearest."""
    depth = "uint8" if bits <= 8 else "uint16"
    found, top = ramp(bits, depth), np.iinfo(depth).max
    assert (found[0], found[-1], len(found)) == (0, top, 1 << bits)
    assert np.abs(found - np.arange(1 << bits) / ((1 << bits) - 1) * top).max() <= 0.5


def test_full_scale_copies_nothing_without_need():
    """8 and 16 bits are handed on as they are."""
    samples = np.zeros((2, 2, 1), np.uint8)
    assert full_scale(samples, 8) is samples


def test_lab_signed_undoes_lab_16():
    """Every stored value of a signed 16-bit Lab within -128..127 comes back; the far end is cut at 127."""
    every = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1).repeat(3, axis=2)
    back = lab_signed(lab_16(every, signed=True))
    np.testing.assert_array_equal(back[..., 0], every[..., 0])
    stored = every[..., 1].view(np.int16)
    np.testing.assert_array_equal(back[..., 1].view(np.int16), np.minimum(stored, 127 * 256))
    np.testing.assert_array_equal(back[..., 1], back[..., 2])


def test_lab_of_8_bits_becomes_16_without_rounding():
    """L* and a* of 8 bits are whole multiples of 257 in 16."""
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    np.testing.assert_array_equal(lab_16(every, signed=False), every.astype(np.uint16) * 257)
    signed = lab_16(every, signed=True).astype(int)
    np.testing.assert_array_equal(signed[..., 1] - 32_896, every[..., 1].view(np.int8).astype(int) * 257)
