"""What digits add to the networks: sizes, names by number of axes, the flow branch and its warp."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_networks import parameter_count, random_input, run, section, shapes, start

from imitation_refinement.method.networks import (
    CLASSIFIERS,
    REFINERS,
    UNet,
    build_classifier,
    build_refiner,
    classifier_names,
    refiner_names,
)
from imitation_refinement.method.networks.warp import warp


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("densenet_digits_k12", 885_220),
        ("densenet_digits_k32", 6_149_130),
        ("densenet_digits_slim", 40_828),
        ("cnn_digits", 98_682),
    ],
)
def test_digit_classifier_sizes(name, wanted):
    assert parameter_count(build_classifier(section(name), 10), 1, 28, 28, 1) == wanted


def test_digit_densenet_without_the_transition_of_its_removed_block():
    network = build_classifier(section("densenet_digits_k12"), 10)
    assert parameter_count(network.clone(blocks=(12, 24, 16)), 1, 28, 28, 1) == 905_914


def test_cnn_digits_by_counting_layers():
    widths = (1, 16, 32, 64, 128)
    total = sum(9 * a * b + 2 * b for a, b in zip(widths, widths[1:], strict=False)) + 129 * 10
    network = build_classifier(section("cnn_digits"), 10)
    assert parameter_count(network, 1, 28, 28, 1) == total == 98_682


# Embedding: each block adds 12 channels a layer, each transition halves, rounding down. From 24:
# 12, 156, 78, 366, 183, 375; from 16: 28, 14, 50, 25, 97.
@pytest.mark.parametrize(
    ("name", "first", "second", "embedding"),
    [
        ("densenet_digits_k12", (28, 28, 24), (28, 28, 12), 375),
        ("densenet_digits_slim", (14, 14, 16), (14, 14, 24), 97),
        ("cnn_digits", (28, 28, 16), (14, 14, 32), 128),
    ],
)
def test_digit_classifier_maps(name, first, second, embedding):
    network = build_classifier(section(name), 10)
    variables = shapes(network, 1, 28, 28, 1)
    output = jax.eval_shape(network.apply, variables, jnp.zeros((2, 28, 28, 1)))
    assert [maps.shape[1:] for maps in output.features] == [first, second]
    assert output.embedding.shape == (2, embedding)


def test_names_by_number_of_axes():
    assert set(classifier_names(1)) | set(classifier_names(2)) == set(CLASSIFIERS)
    assert set(refiner_names(1)) | set(refiner_names(2)) == set(REFINERS)
    for ndim in (1, 2):
        for name in classifier_names(ndim):
            assert build_classifier(section(name), 10).ndim == ndim
        assert all(build_refiner(section(name)).ndim == ndim for name in refiner_names(ndim))


def test_warp_by_hand():
    x = jnp.asarray([0.0, 4.0, 2.0, 1.0])[None, :, None]
    field = jnp.asarray([1.0, 0.25, -0.5, 2.0])[None, :, None]
    # x(1), 3/4 x(1) + 1/4 x(2), the middle of x(1) and x(2), beyond the end.
    np.testing.assert_allclose(warp(x, field, 2)[0, :, 0], [4.0, 3.5, 3.0, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(warp(x, jnp.zeros_like(field), 2), x)


def test_warp_by_whole_pixels_is_a_shift_of_either_axis():
    x = random_input(1, 6, 7, 2)
    field = jnp.broadcast_to(jnp.asarray([2.0, -3.0]), (1, 6, 7, 2))
    got = np.asarray(warp(x, field, 3))[0]
    np.testing.assert_array_equal(got[:4, 3:], np.asarray(x)[0, 2:, :4])
    assert not got[4:].any() and not got[:, :3].any()


def test_warp_at_rest_has_the_central_difference_as_derivative():
    x = random_input(1, 9, 1)
    slope = jax.grad(lambda field: jnp.sum(warp(x, field, 3)))(jnp.zeros((1, 9, 1)))[0, :, 0]
    padded = np.pad(np.asarray(x)[0, :, 0], 1)
    np.testing.assert_allclose(slope, (padded[2:] - padded[:-2]) / 2, rtol=1e-5, atol=1e-7)


def test_flow_is_bounded_and_smooth():
    """A branch driven to its ends moves everything by `flow` points and not one more."""
    network, x = UNet((4, 4), ndim=1, flow=2, output="unit"), random_input(1, 16, 1)
    params = start(network, x)["params"]
    for sign in (-1.0, 1.0):
        params["flow"]["bias"] = jnp.full((1,), 100 * sign)
        got = np.asarray(run(network, {"params": params}, x))[0, 2:-2, 0]
        first = 2 + int(2 * sign)
        np.testing.assert_allclose(got, np.asarray(x)[0, first : first + 12, 0], rtol=1e-6)
