"""Eq. 1, Eq. 3 and the two algorithms' formulas by hand and against float64 loops."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from loops import array, example, loop_distances, loop_log_softmax

from imitation_refinement.method import losses

# Eq. 1 and Algorithm 1.


def test_eq1_by_hand_and_absent_class():
    embedding = array([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]])
    got = losses.class_prototypes(embedding, jnp.array([1, 1, 0]), 3)
    np.testing.assert_array_equal(got[:2], [[5.0, 5.0], [2.0, 1.0]])
    assert np.isnan(got[2]).all()


def test_eq1_in_batches_with_padding_is_the_mean_of_the_set():
    rng = np.random.default_rng(4)
    embedding, labels = rng.normal(size=(10, 3)), np.arange(10) % 3
    padded = np.concatenate([embedding, np.full((2, 3), 9.0)])
    padded_labels = np.concatenate([labels, [-1, 3]])
    sums, counts = np.zeros((3, 3)), np.zeros(3)
    for rows in (slice(0, 6), slice(6, 12)):
        s, n = losses.class_sums(array(padded[rows]), jnp.asarray(padded_labels[rows]), 3)
        sums, counts = sums + s, counts + n
    wanted = np.stack([embedding[labels == k].mean(0) for k in range(3)])
    np.testing.assert_array_equal(counts, [4, 3, 3])
    np.testing.assert_allclose(sums / counts[:, None], wanted, rtol=1e-5)
    np.testing.assert_allclose(
        losses.class_prototypes(array(embedding), jnp.asarray(labels), 3), wanted, rtol=1e-5
    )


def test_eq1_is_summed_in_the_type_of_the_embedding_and_no_less():
    """A GPU or TPU would round the product of float32 to fewer bits, were it not told."""
    embedding, labels = np.ones((4, 3), np.float32), np.zeros(4, np.int32)
    with jax.enable_x64():
        for array in losses.class_sums(embedding, labels, 2):
            assert array.dtype == np.float32
    program = jax.make_jaxpr(partial(losses.class_sums, num_classes=2))(embedding, labels)
    (product,) = (line for line in program.eqns if line.primitive.name == "dot_general")
    assert set(product.params["precision"]) == {jax.lax.Precision.HIGHEST}


def test_eq1_prototypes_minimize_the_distance_of_eq2():
    """Class means are the best representatives under the squared distance (Banerjee et al.)."""
    rng = np.random.default_rng(5)
    embedding, labels = array(rng.normal(size=(12, 3))), jnp.asarray(np.arange(12) % 2)

    def spread(prototypes):
        distances = losses.prototype_distances(embedding, prototypes)
        return jnp.sum(jnp.take_along_axis(distances, labels[:, None], axis=1))

    means = losses.class_prototypes(embedding, labels, 2)
    np.testing.assert_allclose(jax.grad(spread)(means), 0.0, atol=1e-5)


def test_algorithm1_line1():
    drawn = losses.init_prototypes(jax.random.key(0), 7, 1000)
    assert drawn.shape == (7, 1000)
    assert abs(float(jnp.std(drawn)) - 0.01) < 0.0005  # 6 standard errors
    assert (drawn != losses.init_prototypes(jax.random.key(1), 7, 1000)).all()
    with jax.enable_x64():
        assert losses.init_prototypes(jax.random.key(0), 7, 1000).dtype == np.float32


def test_algorithm1_line6():
    embedding, prototypes, labels, logits = example()
    prediction = -np.mean([loop_log_softmax(logits)[i, k] for i, k in enumerate(labels)])
    log_probs = loop_log_softmax(-loop_distances(embedding, prototypes, 1 / 4))
    prototype = -np.mean([log_probs[i, k] for i, k in enumerate(labels)])
    distances = losses.prototype_distances(array(embedding), array(prototypes))
    loss, terms = losses.classifier_loss(array(logits), distances, jnp.asarray(labels), lam=0.3)
    np.testing.assert_allclose(loss, prediction + 0.3 * prototype, rtol=1e-5)
    assert terms["loss"] == loss
    np.testing.assert_allclose(terms["cross_entropy"], prediction, rtol=1e-5)
    np.testing.assert_allclose(terms["prototype"], prototype, rtol=1e-5)
    standard, _ = losses.classifier_loss(array(logits), distances, jnp.asarray(labels), lam=0.0)
    np.testing.assert_allclose(standard, prediction, rtol=1e-5)


def test_algorithm1_line8_by_hand():
    prototypes = array([[1.0, 1.0], [4.0, 0.0], [7.0, 7.0]])
    embedding = array([[2.0, 3.0], [3.0, 5.0], [0.0, 2.0]])
    got = losses.update_prototypes(prototypes, embedding, jnp.array([0, 0, 1]))
    # (1+2+3, 1+3+5) / 3, (4+0, 0+2) / 2, and class 2 is absent.
    np.testing.assert_allclose(got, [[2.0, 3.0], [2.0, 1.0], [7.0, 7.0]], rtol=1e-6)


def test_algorithm1_line8_converges_to_eq1_when_embeddings_stand_still():
    embedding, prototypes, labels, _ = example()
    embedding, labels = array(embedding), jnp.asarray(labels)
    exact = losses.class_prototypes(embedding, labels, 3)
    got = array(prototypes)
    for _ in range(30):
        got = losses.update_prototypes(got, embedding, labels)
    np.testing.assert_allclose(got[jnp.array([0, 2])], exact[jnp.array([0, 2])], rtol=1e-5)
    np.testing.assert_array_equal(got[1], array(prototypes)[1])


def test_algorithm1_line8_lets_no_gradient_into_the_embedding():
    embedding, prototypes, labels, _ = example()

    def total(point):
        return jnp.sum(losses.update_prototypes(array(prototypes), point, jnp.asarray(labels)))

    np.testing.assert_array_equal(jax.grad(total)(array(embedding)), 0.0)


# Eq. 3 and Algorithm 2.


def test_eq3_targeted_and_non_targeted():
    embedding, prototypes, labels, logits = example()
    log_g = loop_log_softmax(logits)
    log_p = loop_log_softmax(-loop_distances(embedding, prototypes, 1 / 4))
    rows = range(len(labels))
    wanted = {
        True: (
            -np.mean([log_g[i, labels[i]] for i in rows]),
            -np.mean([log_p[i, labels[i]] for i in rows]),
        ),
        False: (
            -np.mean([sum(math.exp(v) * v for v in row) for row in log_g]),
            -np.mean([sum(math.exp(v) * v for v in row) for row in log_p]),
        ),
    }
    change = np.array([0.5, 1.0, 0.0, 2.0, 4.0])
    distances = losses.prototype_distances(array(embedding), array(prototypes))
    for targeted, (pred, proto) in wanted.items():
        loss, terms = losses.refiner_loss(
            array(logits),
            distances,
            array(change),
            jnp.asarray(labels) if targeted else None,
            alpha=0.2,
            beta=0.7,
        )
        np.testing.assert_allclose(loss, pred + 0.2 * 1.5 + 0.7 * proto, rtol=1e-5)
        assert terms["loss"] == loss
        got = (terms["pred"], terms["proto"], terms["reg"])
        np.testing.assert_allclose(got, (pred, proto, 1.5), rtol=1e-5)


def test_eq3_ablations_of_table_3():
    embedding, prototypes, labels, logits = example()
    distances = losses.prototype_distances(array(embedding), array(prototypes))
    change = jnp.zeros(5)

    def loss(beta, gamma):
        return losses.refiner_loss(
            array(logits), distances, change, jnp.asarray(labels), alpha=1.0, beta=beta, gamma=gamma
        )[0]

    without_pred, without_proto, both = loss(1.0, 0.0), loss(0.0, 1.0), loss(1.0, 1.0)
    log_probs = losses.prototype_log_probs(distances)
    proto = jnp.mean(losses.prototype_loss(log_probs, jnp.asarray(labels)))
    np.testing.assert_allclose(without_pred, proto, rtol=1e-6)
    np.testing.assert_allclose(without_pred + without_proto, both, rtol=1e-6)
