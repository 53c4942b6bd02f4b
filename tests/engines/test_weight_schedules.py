from __future__ import annotations

import math

import pytest

from weakmedsam_ext.engines import SigmoidRampdown, SigmoidRampup, sigmoid_rampdown, sigmoid_rampup


def test_the_rise_at_its_ends_and_in_the_middle():
    assert sigmoid_rampup(0, 40) == pytest.approx(math.exp(-5))
    assert sigmoid_rampup(20, 40) == pytest.approx(math.exp(-5 / 4))
    assert sigmoid_rampup(40, 40) == sigmoid_rampup(1000, 40) == sigmoid_rampup(0, 0) == 1
    assert sigmoid_rampup(-3, 40) == sigmoid_rampup(0, 40)


def test_the_fall_is_the_rise_from_the_end():
    assert sigmoid_rampdown(0, 40, 40) == 1
    assert sigmoid_rampdown(20, 40, 40) == pytest.approx(math.exp(-5 / 4))
    assert sigmoid_rampdown(40, 40, 40) == pytest.approx(math.exp(-5))
    assert sigmoid_rampdown(59, 100, 40) == 1 > sigmoid_rampdown(61, 100, 40)


def test_published_weights_of_semisam():
    """6000 iterations: lambda(t) = 0.1 exp(-5 (1 - min(s / 40, 1))^2), s = t // 150, and half of it backwards."""
    rise, fall = SigmoidRampup(), SigmoidRampdown(6000)
    for iteration in (0, 149, 150, 2999, 3000, 5999, 6000):
        s, u = iteration // 150, (6000 - iteration) // 150
        assert rise(iteration) == pytest.approx(0.1 * math.exp(-5 * (1 - min(s / 40, 1)) ** 2))
        assert fall(iteration) == pytest.approx(0.5 * 0.1 * math.exp(-5 * (1 - min(u / 40, 1)) ** 2))
    assert rise(0) == rise(149) < rise(150) and rise(6000) == 0.1 == rise(10**6)
    assert fall(0) == 0.05 > fall(3000) > fall(6000)
    rises, falls = ([weight(iteration) for iteration in range(0, 6001, 50)] for weight in (rise, fall))
    assert rises == sorted(rises) and falls == sorted(falls, reverse=True)


def test_published_weights_of_semisam_plus():
    rise, fall = SigmoidRampup(length=200), SigmoidRampdown(30000, weight=0.1, length=200)
    assert rise(15000) == fall(15000) == pytest.approx(0.1 * math.exp(-5 / 4))
    assert rise(30000) == fall(0) == 0.1


def test_impossible_lengths_are_refused():
    with pytest.raises(ValueError, match="length: expected 0 or more steps, but got -1"):
        sigmoid_rampup(0, -1)
    with pytest.raises(ValueError, match="expected length >= 0 and every >= 1, but got length=40 and every=0"):
        SigmoidRampup(every=0)
    with pytest.raises(ValueError, match="got length=-2 and every=150"):
        SigmoidRampdown(10, length=-2)
