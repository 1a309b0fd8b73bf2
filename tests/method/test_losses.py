"""Eqs. 2 and 4 to 7 against hand-computed numbers, float64 loops and finite differences."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loops import array, example, loop_distances, loop_log_softmax

from imitation_refinement.method import losses

LOG2 = math.log(2.0)


def numerical_gradient(function, point, step=1e-6):
    """Central differences of a scalar function of a float64 NumPy array."""
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        shift = np.zeros_like(point)
        shift[index] = step
        gradient[index] = (function(point + shift) - function(point - shift)) / (2 * step)
    return gradient


# The distance d.


def test_distance_by_hand():
    embedding, prototypes = array([[1.0, 2.0]]), array([[1.0, 2.0], [4.0, -2.0], [1.0, 0.0]])
    got = losses.prototype_distances(embedding, prototypes)
    np.testing.assert_array_equal(got, [[0.0, 12.5, 2.0]])  # (9 + 16) / D with D = 2
    got = losses.prototype_distances(embedding, prototypes, scale=1.0)
    np.testing.assert_array_equal(got, [[0.0, 25.0, 4.0]])
    got = losses.prototype_distances(embedding, prototypes, scale=2.0, distance="euclidean")
    np.testing.assert_array_equal(got, [[0.0, 10.0, 4.0]])
    got = losses.prototype_distances(embedding, prototypes, distance="euclidean")
    np.testing.assert_allclose(got, np.array([[0.0, 5.0, 2.0]]) / math.sqrt(2), rtol=1e-6)
    near = losses.prototype_distances(array([[0.3, 0.4]]), jnp.zeros((1, 2)), 1.0, "euclidean")
    np.testing.assert_allclose(near, [[0.5]], rtol=1e-6)


def test_distance_keeps_its_digits_far_from_the_origin():
    # |e|^2 - 2 e.c + |c|^2 would give 0 or 64 here: squares of 8192 have a spacing of 8 in float32.
    embedding, prototypes = jnp.full((1, 4), 8192.0), jnp.full((1, 4), 8193.0)
    assert losses.prototype_distances(embedding, prototypes, scale=1.0)[0, 0] == 4.0


@pytest.mark.parametrize("distance", losses.DISTANCES)
def test_distance_gradient_is_zero_and_finite_on_a_prototype(distance):
    point = jnp.ones((1, 3))

    def total(embedding):
        return jnp.sum(losses.prototype_distances(embedding, point, distance=distance))

    np.testing.assert_array_equal(jax.grad(total)(point), 0.0)


def test_distance_euclidean_gradient_is_the_unit_vector():
    def total(embedding):
        origin = jnp.zeros((1, 2))
        return jnp.sum(losses.prototype_distances(embedding, origin, 1.0, "euclidean"))

    np.testing.assert_allclose(jax.grad(total)(array([[3.0, 4.0]])), [[0.6, 0.8]], rtol=1e-6)


def test_distance_is_the_same_under_jit_at_a_large_batch():
    # jax 0.10.2 computed a vmapped product with a reduction wrongly under jit (jax#39103).
    rng = np.random.default_rng(1)
    embedding, prototypes = rng.normal(size=(40_000, 8)), rng.normal(size=(7, 8))
    got = jax.jit(losses.prototype_distances)(array(embedding), array(prototypes))
    wanted = np.stack([((embedding - c) ** 2).mean(1) for c in prototypes], axis=1)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


# Eqs. 2 and 5: negative log-likelihood of the softmax over -d.


def test_eq2_by_hand():
    # exp(-d) = 1/2, 1/4, 1/4: p = (1/2, 1/4, 1/4).
    log_probs = losses.prototype_log_probs(array([[LOG2, 2 * LOG2, 2 * LOG2]] * 2))
    np.testing.assert_allclose(np.exp(log_probs[0]), [0.5, 0.25, 0.25], rtol=1e-6)
    loss = losses.prototype_loss(log_probs, jnp.array([0, 2]))
    np.testing.assert_allclose(loss, [LOG2, 2 * LOG2], rtol=1e-6)


def test_eq2_against_a_loop():
    embedding, prototypes, labels, _ = example()
    with jax.enable_x64():
        distances = losses.prototype_distances(jnp.asarray(embedding), jnp.asarray(prototypes))
        log_probs = losses.prototype_log_probs(distances)
        loss = losses.prototype_loss(log_probs, jnp.asarray(labels))
        assert loss.dtype == jnp.float64
    slow = loop_log_softmax(-loop_distances(embedding, prototypes, 1 / 4))
    np.testing.assert_allclose(log_probs, slow, rtol=1e-12)
    np.testing.assert_allclose(loss, [-slow[i, k] for i, k in enumerate(labels)], rtol=1e-12)


def test_eq2_gradient():
    embedding, prototypes, labels, _ = example()

    def total(point):
        distances = losses.prototype_distances(jnp.asarray(point), jnp.asarray(prototypes))
        log_probs = losses.prototype_log_probs(distances)
        return jnp.sum(losses.prototype_loss(log_probs, jnp.asarray(labels)))

    with jax.enable_x64():
        analytic = jax.grad(total)(jnp.asarray(embedding))
        numeric = numerical_gradient(lambda point: float(total(point)), embedding)
    np.testing.assert_allclose(analytic, numeric, atol=1e-8)


def test_eq2_far_from_all_prototypes_only_differences_count():
    far = array([[1e8, 1e8, 1e8], [3e5, 3e5 + 1.0, 3e5 + 40.0]])
    near = array([[0.0, 0.0, 0.0], [0.0, 1.0, 40.0]])
    got, wanted = losses.prototype_log_probs(far), losses.prototype_log_probs(near)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    labels = jnp.array([2, 2])
    np.testing.assert_allclose(
        losses.prototype_loss(got, labels), [math.log(3), 40.31326], rtol=1e-6
    )


def test_eq2_limit_of_a_wrong_embedding_is_the_gap_with_a_gradient():
    # p_y underflows to 0 at a gap of 1e4, but -log p_y is the gap and its slope stays 1.
    def loss(gap):
        distances = jnp.stack([jnp.zeros(()), gap])[None]
        return losses.prototype_loss(losses.prototype_log_probs(distances), jnp.array([1]))[0]

    value, slope = jax.value_and_grad(loss)(array(1e4))
    assert value == 1e4
    assert slope == 1.0


def test_eq2_does_not_change_when_prototypes_are_relabelled():
    embedding, prototypes, labels, _ = example()
    order = np.array([2, 0, 1])  # new class k is old class order[k]
    new_labels = np.argsort(order)[labels]

    def loss(prototypes, labels):
        distances = losses.prototype_distances(array(embedding), array(prototypes))
        return losses.prototype_loss(losses.prototype_log_probs(distances), jnp.asarray(labels))

    np.testing.assert_allclose(
        loss(prototypes[order], new_labels), loss(prototypes, labels), rtol=1e-5
    )


# Eq. 4: cross-entropy.


def test_eq4_by_hand():
    logits = array([[0.0, 0.0, LOG2], [0.0, 0.0, LOG2]])  # softmax (1/4, 1/4, 1/2)
    got = losses.cross_entropy(logits, jnp.array([2, 0]))
    np.testing.assert_allclose(got, [LOG2, 2 * LOG2], rtol=1e-6)


def test_eq4_against_a_loop_and_its_gradient():
    *_, labels, logits = example()
    slow = loop_log_softmax(logits)
    one_hot = np.eye(3)[labels]
    with jax.enable_x64():
        got = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
        gradient = jax.grad(lambda z: jnp.sum(losses.cross_entropy(z, jnp.asarray(labels))))(
            jnp.asarray(logits)
        )
    np.testing.assert_allclose(got, -(slow * one_hot).sum(1), rtol=1e-12)
    np.testing.assert_allclose(gradient, np.exp(slow) - one_hot, atol=1e-12)  # softmax - one-hot


def test_eq4_huge_logits_stay_finite():
    logits = array([[1e30, 0.0], [-1e30, 0.0]])
    np.testing.assert_array_equal(losses.cross_entropy(logits, jnp.array([0, 1])), 0.0)
    np.testing.assert_allclose(losses.cross_entropy(logits, jnp.array([1, 0])), 1e30, rtol=1e-6)


def test_eq4_a_label_beyond_the_classes_is_not_a_number():
    assert np.isnan(losses.cross_entropy(jnp.zeros((1, 3)), jnp.array([3]))[0])


# Eq. 6 and Eq. 4 without labels: entropy.


def test_eq6_by_hand():
    log_probs = jnp.log(array([[0.5, 0.25, 0.25], [1 / 3, 1 / 3, 1 / 3], [1.0, 0.0, 0.0]]))
    np.testing.assert_allclose(losses.entropy(log_probs), [1.5 * LOG2, math.log(3), 0], rtol=1e-6)


def test_eq6_against_a_loop_and_its_gradient():
    embedding, prototypes, _, _ = example()

    def total(point):
        distances = losses.prototype_distances(jnp.asarray(point), jnp.asarray(prototypes))
        return losses.entropy(losses.prototype_log_probs(distances))

    log_probs = loop_log_softmax(-loop_distances(embedding, prototypes, 1 / 4))
    slow = [-sum(math.exp(v) * v for v in row) for row in log_probs]
    with jax.enable_x64():
        np.testing.assert_allclose(total(embedding), slow, rtol=1e-12)
        analytic = jax.grad(lambda point: jnp.sum(total(point)))(jnp.asarray(embedding))
        numeric = numerical_gradient(lambda point: float(jnp.sum(total(point))), embedding)
    np.testing.assert_allclose(analytic, numeric, atol=1e-8)


def test_eq6_certain_prediction_has_zero_entropy_and_zero_gradient():
    def total(logits):
        return jnp.sum(losses.entropy(jax.nn.log_softmax(logits)))

    for certain in ([[1e6, 0.0, 0.0]], [[0.0, -jnp.inf, -jnp.inf]]):
        value, gradient = jax.value_and_grad(total)(array(certain))
        assert value == 0.0
        np.testing.assert_array_equal(gradient, 0.0)


def test_eq6_descent_moves_towards_the_closest_prototype():
    """The text's "closest prototype to the raw embedded input" is what Eq. 6 amounts to."""
    prototypes = array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])

    def total(embedding):
        distances = losses.prototype_distances(embedding, prototypes)
        return jnp.sum(losses.entropy(losses.prototype_log_probs(distances)))

    start = array([[1.4, 0.3]])
    moved = start - 0.01 * jax.grad(total)(start)
    before = losses.prototype_log_probs(losses.prototype_distances(start, prototypes))[0]
    after = losses.prototype_log_probs(losses.prototype_distances(moved, prototypes))[0]
    assert np.argmax(before) == 1
    assert after[1] > before[1]


# Eq. 7: regularization.


@pytest.mark.parametrize(
    ("p", "wanted"), [(1, 7.0), (1.0, 7.0), (2, 5.0), (3, 91.0 ** (1 / 3)), (math.inf, 4.0)]
)
def test_eq7_by_hand(p, wanted):
    refined, raw = array([[[1.0], [5.0], [2.0]]]), array([[[4.0], [1.0], [2.0]]])  # -3, 4, 0
    np.testing.assert_allclose(losses.regularization(refined, raw, p=p), [wanted], rtol=1e-6)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_eq7_gradient(p):
    rng = np.random.default_rng(2)
    refined, raw = rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 5, 2))
    raw[:, 3] = refined[:, 3] + 1.0  # no element on the kink of |.|

    def total(point):
        return jnp.sum(losses.regularization(jnp.asarray(point), jnp.asarray(raw), p=p))

    with jax.enable_x64():
        analytic = jax.grad(total)(jnp.asarray(refined))
        numeric = numerical_gradient(lambda point: float(total(point)), refined)
    np.testing.assert_allclose(analytic, numeric, atol=1e-7)


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, math.inf])
def test_eq7_at_the_identity_is_zero_with_zero_gradient(p):
    """Every refiner starts here; one unchanged example must not spoil the batch."""
    raw = array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    refined = array([[0.0, 1.0, 2.0], [0.0, 1.0, 3.0]])
    gradient = jax.grad(lambda point: jnp.sum(losses.regularization(point, raw, p=p)))(refined)
    np.testing.assert_allclose(gradient, [[0, 0, 0], [0, 0, 1]], rtol=1e-6)
    assert losses.regularization(refined, raw, p=p)[0] == 0.0


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 20, math.inf])
@pytest.mark.parametrize("size", [1e-12, 1e-3, 1e12])
def test_eq7_scales_with_its_argument(p, size):
    difference = np.array([[1.0, -2.0, 0.5]])
    got = losses.regularization(array(size * difference), jnp.zeros((1, 3)), p=p)
    np.testing.assert_allclose(got, [size * np.linalg.norm(difference[0], p)], rtol=1e-5)


def test_eq7_compares_features():
    def psi(pattern):  # differences of neighbours: blind to a constant shift
        return pattern[:, 1:] - pattern[:, :-1]

    raw = array([[0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(losses.regularization(raw + 3.0, raw, psi), [0.0])
    refined = array([[0.0, 2.0, 0.0, 0.0]])
    np.testing.assert_array_equal(losses.regularization(refined, raw, psi), [2.0])


def test_eq7_per_element_weight_gives_the_mean():
    rng = np.random.default_rng(3)
    difference = rng.normal(size=(1, 50))
    for p in (1, 2, 4):
        norm = losses.regularization(array(difference), jnp.zeros((1, 50)), p=p)
        mean = np.mean(np.abs(difference) ** p) ** (1 / p)
        got = losses.per_element_weight(10.0, 50, p) * norm[0]
        np.testing.assert_allclose(got, 10 * mean, rtol=1e-5)
    assert losses.per_element_weight(10.0, 784) == pytest.approx(10 / 784)
    assert losses.per_element_weight(10.0, 784, math.inf) == 10.0


# The distance of simulated pairs, which is not in the paper.


def test_pair_distance_by_hand():
    # x + e = (1, 2, 1, 1/2), y + e = (2, 1, 1, 1). l1: 1 + 1 + 0 + 1/2;
    # logarithms: (2 - 1 + 0 + 1) ln 2; x - y: -1 + 1 + 0 - 1/2.
    refined, truth = array([[0.5, 1.5, 0.5, 0.0]]), array([[1.5, 0.5, 0.5, 0.5]])
    got = losses.pair_distance(refined, truth, epsilon=0.5)
    np.testing.assert_allclose(got, [2.5 + 2.0 * LOG2 - 0.5], rtol=1e-6)


def test_pair_distance_of_a_lost_peak_grows_with_the_logarithm_of_epsilon():
    # (y + e) ln((y + e) / e): half as much e costs ln 2 more. An added peak costs 2 as e vanishes.
    truth, lost = array([[0.0, 1.0]]), jnp.zeros((1, 2))
    costs = [losses.pair_distance(lost, truth, epsilon=e)[0] for e in (1e-4, 0.5e-4)]
    np.testing.assert_allclose(costs[1] - costs[0], LOG2, rtol=1e-3)
    np.testing.assert_allclose(losses.pair_distance(truth, lost, epsilon=1e-6), [2.0], rtol=1e-4)


def test_pair_distance_to_itself_is_zero_and_the_least():
    truth = array([[0.0, 0.2, 1.0]])
    np.testing.assert_array_equal(losses.pair_distance(truth, truth), [0.0])
    for index in range(3):
        for step in (-1e-3, 1e-3):
            moved = jnp.maximum(truth.at[0, index].add(step), 0.0)  # zero cannot be undercut
            change = float(jnp.sum(jnp.abs(moved - truth)))
            assert losses.pair_distance(moved, truth)[0] >= 0.9 * change


def test_pair_distance_to_itself_is_flat():
    truth = array([[0.0, 1e-3, 1.0]])
    gradient = jax.grad(lambda x: jnp.sum(losses.pair_distance(x, truth, epsilon=1e-3)))(truth)
    np.testing.assert_array_equal(gradient, np.zeros((1, 3)))


def test_pair_distance_gradient():
    rng = np.random.default_rng(4)
    refined, truth = rng.uniform(0.01, 1.0, (2, 2, 5, 1))
    truth[:, 3] = 0.0

    def total(point):
        return jnp.sum(losses.pair_distance(jnp.asarray(point), jnp.asarray(truth)))

    with jax.enable_x64():
        analytic = jax.grad(total)(jnp.asarray(refined))
        numeric = numerical_gradient(lambda point: float(total(point)), refined)
    np.testing.assert_allclose(analytic, numeric, rtol=1e-6)
    there = 2.0 - 1e-3 / (refined[:, 3] + 1e-3)  # nothing true: l1, x and the lifted logarithm
    np.testing.assert_allclose(analytic[:, 3], there, rtol=1e-12)
