"""Handwritten digits from typeset ones: Bai et al. 2019, "Handwritten Digits".

    python main.py --config=configs/digits.py            default: 50 images of each digit
    python main.py --config=configs/digits.py:uci        offline, on scikit-learn's small set
    python main.py --config=configs/digits.py:smoke      every stage in a minute; no real results
    python main.py --config=configs/digits.py:paper      the paper's method alone: accelerators
    python main.py --config=configs/digits.py:sweep      its Fig. 7: 5 seeds, 1 to 50 images, hours
    python main.py --config=configs/digits.py:sweep_smoke    that in a minute; no real results

MNIST is downloaded once (12 MB), or read from the folder `--config.data.mnist_dir=...`. Every field
can be overridden: `--config.data.images_per_class=1`, `--config.refiner.targeted=False`,
`--config.data.fonts="('kalam','my/font.otf')"`. Settings were chosen with
`--config.data.test=validation`, which leaves the test images alone.
"""

from ml_collections import ConfigDict


def get_config(preset: str = "") -> ConfigDict:
    """Returns the default config, or a preset of it.

    Args:
        preset: '', 'uci', 'smoke', 'paper', 'sweep' or 'sweep_smoke'.

    Raises:
        ValueError: unknown preset.
    """
    presets = {
        "": _default,
        "uci": _uci,
        "smoke": _smoke,
        "paper": _paper,
        "sweep": _sweep,
        "sweep_smoke": _sweep_smoke,
    }
    if preset not in presets:
        raise ValueError(f"configs/digits.py has no preset '{preset}'; there are {sorted(presets)}")
    return presets[preset]()


def _default() -> ConfigDict:
    config = ConfigDict()
    config.task = "digits"
    config.seed = 0

    data = config.data = ConfigDict()
    data.source = "mnist"  # or uci: 1,797 digits of 8 x 8 pixels that come with scikit-learn
    data.mnist_dir = ""  # folder of the four IDX files; '': the cache, downloaded if need be
    data.images_per_class = 50  # N: the refiner has the first N training images of each digit
    data.test = "test"  # or validation: training images that nothing else uses
    # Names or files (.ttf, .otf, .woff); in the place of the paper's Bradley Hand, Brush Script,
    # Hannotate, Times and Typewriter.
    data.fonts = ("kalam", "yellowtail", "patrick_hand", "stix", "courier_prime")
    # Random changes, largest values: see imitation_refinement/digits/augment.py, Changes. All 0 is
    # the paper: the classifier sees the grid as it is, the refiner the few images as they are.
    none = {
        "rotation": 0.0,
        "scale": 0.0,
        "shear": 0.0,
        "shift": 0.0,
        "elastic": 0.0,
        "thicker": 0.0,
        "thinner": 0.0,
        "blur": 0.0,
        "noise": 0.0,
    }
    data.ideal = ConfigDict(none)  # of typeset digits in the classifier's training
    data.ideal.update(
        rotation=10.0, scale=0.1, shear=0.2, shift=1.0, elastic=0.7, thicker=0.5, thinner=0.3
    )
    data.views = ConfigDict(none)  # of the few handwritten images
    data.views.update(
        rotation=15.0, scale=0.15, shear=0.3, shift=2.0, elastic=1.0, thicker=0.5, thinner=0.3
    )
    data.pairs = ConfigDict(none)  # typeset digits as if written by hand
    data.pairs.update(
        rotation=10.0, scale=0.25, shear=0.3, shift=2.0, elastic=1.2, thicker=1.2, thinner=0.3
    )
    data.pairs.update(blur=0.3, noise=0.03)
    data.pairs.clean = 0.1  # share that is left unchanged

    # Algorithm 1.
    classifier = config.classifier = ConfigDict()
    classifier.network = "cnn_digits"
    classifier.dtype = "float32"
    classifier.steps = 1000
    classifier.batch_size = 100
    classifier.optimizer = "adam"
    classifier.learning_rate = 2e-3
    classifier.schedule = "cosine"
    classifier.warmup_steps = 50
    classifier.clip_norm = 0.0
    classifier.prototype_weight = 1.0  # lambda
    classifier.distance = "sqeuclidean"
    classifier.distance_scale = 0.0  # 0: one over the embedding's width

    # Classifiers that no refiner sees. The reader is trained on handwritten digits that are neither
    # the refiner's nor tested: is a refined digit still the same to an eye used to handwriting?
    judges = config.judges = ConfigDict()
    judges.other_seed = ConfigDict({**classifier.to_dict(), "data": "ideal"})
    judges.other_network = ConfigDict(judges.other_seed.to_dict())
    judges.other_network.network = "densenet_digits_slim"
    judges.reader = ConfigDict(judges.other_seed.to_dict())
    judges.reader.data = "imperfect"

    # Algorithm 2.
    refiner = config.refiner = ConfigDict()
    refiner.network = "unet_flow_digits"
    refiner.dtype = "float32"
    refiner.targeted = True
    refiner.steps = 1500
    refiner.batch_size = 50  # handwritten images, or pairs
    refiner.optimizer = "adam"
    refiner.learning_rate = 2e-3
    refiner.schedule = "cosine"
    refiner.warmup_steps = 100
    refiner.clip_norm = 1.0
    refiner.prediction_weight = 1.0
    refiner.regularization_weight = 10.0  # alpha, per pixel
    refiner.prototype_weight = 1.0  # beta
    refiner.norm = 1.0  # p
    refiner.psi = "identity"
    # Extension: typeset digits put through `data.pairs`, whose right answer is known.
    # Both zero is the paper's method.
    refiner.pair_weight = 0.0
    refiner.pair_recognition = 1.0
    refiner.pretrain_steps = 600  # on pairs alone
    refiner.pretrain_learning_rate = 2e-3
    refiner.pairs_after_pretraining = False  # True costs twice as much
    refiner.ema_decay = 0.99

    # Evaluation. The test images are the one fold.
    config.evaluate = ConfigDict()
    config.evaluate.folds = 1
    config.evaluate.run_folds = 1
    config.evaluate.batch_size = 500
    config.evaluate.ideal_count = 2000  # held-out images
    config.evaluate.bootstrap = 1000

    # Running. These may change between runs in one work directory.
    run = config.run = ConfigDict()
    run.workers = 0
    run.threads = 1  # that draw batches; more are slower: benchmarks/views.py
    run.log_every = 50
    run.checkpoint_every = 500
    run.tensorboard = False
    run.cache_dir = ""  # generated and downloaded data; '': the user's cache folder
    return config


def _uci() -> ConfigDict:
    config = _default()
    config.data.source = "uci"
    for section in (config.classifier, *config.judges.values()):
        section.steps = 500
    config.refiner.steps = 500
    return config


def _smoke() -> ConfigDict:
    config = _uci()
    config.data.images_per_class = 2
    config.data.fonts = ("kalam", "stix")
    for section in (config.classifier, *config.judges.values(), config.refiner):
        section.steps = 8
        section.batch_size = 20
        section.warmup_steps = 2
    config.refiner.pretrain_steps = 4
    config.judges.other_network.network = "cnn_digits"  # one program for all
    config.evaluate.batch_size = 100
    config.evaluate.ideal_count = 100
    config.evaluate.bootstrap = 100
    config.run.log_every = 4
    config.run.checkpoint_every = 4
    return config


def _paper() -> ConfigDict:
    config = _default()
    for changes in (config.data.ideal, config.data.views, config.data.pairs):
        for name in changes:
            changes[name] = 0.0
    for section in (config.classifier, *config.judges.values()):
        section.network = "densenet_digits_k12"
        section.steps = 46600  # 100 epochs of 466 batches
        section.optimizer = "rmsprop"
        section.learning_rate = 0.01
        section.schedule = "constant"
        section.warmup_steps = 0
    config.judges.other_network.network = "densenet_digits_k32"
    config.refiner.network = "unet_digits"
    config.refiner.steps = 3000
    config.refiner.batch_size = 100
    config.refiner.learning_rate = 1e-3
    config.refiner.schedule = "constant"
    config.refiner.warmup_steps = 0
    config.refiner.clip_norm = 0.0
    config.refiner.pair_recognition = 0.0
    config.refiner.pretrain_steps = 0
    config.run.checkpoint_every = 1000
    return config


def _sweep() -> ConfigDict:
    config = _default()
    config.refiner.steps = 1000  # 45 refiners
    return _swept(config)


def _sweep_smoke() -> ConfigDict:
    config = _swept(_smoke())
    config.sweep.seeds = 1
    config.sweep.images_per_class = config.sweep.adapted_images_per_class = (2,)
    config.sweep.one_font = False
    for name in ("scratch_as_paper", "scratch", "fine_tuned", "adda", "gta"):
        config.sweep[name].update(steps=8, batch_size=20)
    config.sweep.gta.update(generator_features=16, discriminator_features=4)
    config.sweep.scratch.warmup_steps = config.sweep.fine_tuned.warmup_steps = 2
    return config


def _swept(config: ConfigDict) -> ConfigDict:
    """Makes of a config for one run that of a sweep; what is done of one is not done again."""
    config.task = "digits_sweep"
    sweep = config.sweep = ConfigDict()
    sweep.seeds = 5  # from config.seed on
    sweep.images_per_class = (1, 2, 5, 10, 20, 30, 40, 50)
    sweep.one_font = True  # also one refiner for each font alone: the rows of Fig. 6
    # The standard classifier: the same without the prototypical loss (lambda = 0).
    config.judges.standard = ConfigDict(config.judges.other_seed.to_dict())
    config.judges.standard.prototype_weight = 0.0
    # Classifiers of the few images, from scratch or from the frozen one. The first has the paper's
    # optimizer and no augmentation; the others see `data.views`, as the refiner does.
    sweep.scratch = ConfigDict(config.classifier.to_dict())
    sweep.scratch.prototype_weight = 0.0
    sweep.scratch.update(steps=500, learning_rate=4e-3)
    sweep.fine_tuned = ConfigDict(sweep.scratch.to_dict())
    sweep.fine_tuned.learning_rate = 1e-3
    sweep.scratch_as_paper = ConfigDict(sweep.scratch.to_dict())
    sweep.scratch_as_paper.update(
        optimizer="rmsprop", learning_rate=0.01, schedule="constant", warmup_steps=0, steps=300
    )
    # Domain adaptation of the frozen classifier to the few images (imitation_refinement/baselines).
    sweep.adapted = ("adda", "adda_labels", "gta", "gta_labels")
    sweep.adapted_images_per_class = (1, 10, 50)  # GTA takes as long as three refiners
    sweep.label_weight = 1.0  # of cross-entropy on the few images in adda_labels, gta_labels
    adda = sweep.adda = ConfigDict()
    adda.steps = 400
    adda.batch_size = 50  # of each domain, as in gta
    adda.learning_rate = 2e-4  # of the target encoder
    adda.discriminator_learning_rate = 2e-4
    adda.discriminator_steps = 0  # of `steps`, the first, on the discriminator alone
    adda.batch_norm = "eval"  # of the target encoder; or train
    adda.label_weight = 0.0
    gta = sweep.gta = ConfigDict()
    gta.steps = 400
    gta.batch_size = 50
    gta.learning_rate = 5e-4
    gta.decay = 1e-4
    gta.adversarial_weight = 0.1
    gta.target_weight = 0.3  # alpha of GTA
    gta.noise = 64
    gta.generator_features = 64
    gta.discriminator_features = 16
    gta.warm_start = True  # from the frozen classifier
    gta.label_weight = 0.0
    return config
