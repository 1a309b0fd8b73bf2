"""Ranges under which a simulated pattern has no imperfection but the instrument's width."""

from imitation_refinement.xrd.ranges import Imperfection

STILL = Imperfection(
    spread=0.0,
    size_nm=(30.0, 30.0),
    microstrain=0.0,
    texture=0.0,
    strain=(1e-9, 1e-9),
    background=(1e-9, 1e-9),
    hump=(0.0, 0.0),
    counts=(1e12, 1e12),
    residual=0.0,
    floor=0.0,
    zero_error=0.0,
    bleed=0.2,
    fewer=0.0,
    more=0.0,
)
