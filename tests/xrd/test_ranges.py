import numpy as np
import pytest
from presets import preset

from imitation_refinement.xrd.ranges import (
    PROFILES,
    Imperfection,
    Options,
    imperfections_of,
    profile,
)


@pytest.mark.parametrize("severity", [0, 1, 2, 3])
def test_whole_severities_are_the_profiles(severity):
    name = ["clean", "mild", "paper_like", "hard"][severity]
    for field, a, b in zip(
        Imperfection._fields,
        profile("clean", float(severity)),
        profile(name),
        strict=True,
    ):
        assert a == pytest.approx(b, rel=1e-12), field


def test_severity_between_profiles_is_halfway():
    half = profile("clean", 1.5)
    assert half.texture == pytest.approx((0.10 + 0.12) / 2)
    assert half.size_nm == pytest.approx((19.0, 42.0))
    assert half.counts == pytest.approx((np.sqrt(3e4 * 3e3), np.sqrt(5e5 * 5e4)))


@pytest.mark.parametrize("severity", [-0.1, 3.1, float("nan")])
def test_severity_outside_is_refused(severity):
    with pytest.raises(ValueError, match=r"outside 0\.\.3"):
        profile("clean", severity)


def test_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="'harsh' is none of clean, mild, paper_like, hard"):
        profile("harsh")


def test_the_default_config_is_its_profile_without_options():
    data = preset().data
    assert imperfections_of(data) == (PROFILES["paper_like"], Options())


def test_ranges_of_the_config_replace_those_of_the_profile():
    data = preset().data
    data.imperfect.update(profile="mild", spikes=2.0, coverage=(0.1, 0.2))
    data.imperfect.ranges.update(size_nm=(5.0, 6.0), texture=0.0)
    found, options = imperfections_of(data)
    assert found == PROFILES["mild"]._replace(size_nm=(5.0, 6.0), texture=0.0)
    assert options == Options(spikes=2.0, coverage=(0.1, 0.2))


def test_every_range_is_a_config_field():
    assert set(preset().data.imperfect.ranges) == set(Imperfection._fields)
