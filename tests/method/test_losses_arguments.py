"""Every argument of the losses that is checked, and the whole message."""

from functools import partial

import numpy as np
import pytest

from imitation_refinement.method import losses

TWO, THREE, LABELS = np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.zeros(3, np.int32)
BAD = [
    (losses.cross_entropy, (THREE, LABELS), "logits: expected shape [B, K], got (3,)"),
    (losses.cross_entropy, (TWO, THREE), "labels: expected integer [B], got float32"),
    (losses.cross_entropy, (TWO, LABELS[:2]), "expected one batch size B, got 3 and 2"),
    (losses.cross_entropy, (TWO, TWO.astype(np.int32)), "labels: expected shape [B], got (3, 2)"),
    (losses.prototype_loss, (THREE, LABELS), "log_probs: expected shape [B, K], got (3,)"),
    (losses.entropy, (TWO.astype(np.int32),), "log_probs: expected floating [B, K], got int32"),
    (losses.prototype_log_probs, (THREE,), "distances: expected shape [B, K], got (3,)"),
    (losses.prototype_distances, (THREE, TWO), "embedding: expected shape [B, D], got (3,)"),
    (losses.prototype_distances, (TWO, THREE), "prototypes: expected shape [K, D], got (3,)"),
    (losses.prototype_distances, (TWO, TWO.T), "expected one embedding size D, got 2 and 3"),
    (
        partial(losses.prototype_distances, distance="l1"),
        (TWO, TWO),
        "distance: expected one of ('sqeuclidean', 'euclidean'), got 'l1'",
    ),
    (
        losses.regularization,
        (TWO, TWO[:, :1]),
        "expected refined and raw of one shape [B, ...], got (3, 2) and (3, 1)",
    ),
    (
        losses.regularization,
        (THREE, THREE),
        "expected refined and raw of one shape [B, ...], got (3,) and (3,)",
    ),
    (partial(losses.regularization, p=0.5), (TWO, TWO), "p: expected 1 <= p <= inf, got 0.5"),
    (
        partial(losses.regularization, psi=lambda x: x.astype(np.int32)),
        (TWO[..., None], TWO[..., None]),
        "psi(refined) - psi(raw): expected floating [B, ., .], got int32",
    ),
    (
        losses.pair_distance,
        (TWO, TWO[..., None]),
        "expected refined and truth of one shape [B, ...], got (3, 2) and (3, 2, 1)",
    ),
    (
        losses.pair_distance,
        (THREE, THREE),
        "expected refined and truth of one shape [B, ...], got (3,) and (3,)",
    ),
    (losses.class_sums, (THREE, LABELS, 2), "embedding: expected shape [B, D], got (3,)"),
    (losses.class_sums, (TWO, THREE, 2), "labels: expected integer [B], got float32"),
    (losses.class_sums, (TWO, LABELS[:2], 2), "expected one batch size B, got 3 and 2"),
    (losses.update_prototypes, (THREE, TWO, LABELS), "prototypes: expected shape [K, D], got (3,)"),
    (
        partial(losses.refiner_loss, alpha=1.0, beta=1.0),
        (TWO, TWO, TWO, LABELS),
        "change: expected shape [B], got (3, 2)",
    ),
    (
        partial(losses.refiner_loss, alpha=1.0, beta=1.0),
        (THREE, TWO, THREE, LABELS),
        "logits: expected shape [B, K], got (3,)",
    ),
    (
        partial(losses.refiner_loss, alpha=1.0, beta=1.0),
        (TWO, TWO, THREE[:2], LABELS),
        "expected one batch size B, got 3 and 2",
    ),
]


@pytest.mark.parametrize(("function", "arguments", "message"), BAD)
def test_bad_arguments_are_named(function, arguments, message):
    kind = TypeError if message.endswith(("int32", "float32")) else ValueError
    with pytest.raises(kind) as caught:
        function(*arguments)
    assert str(caught.value) == message
