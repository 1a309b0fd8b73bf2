"""XRD patterns from composition spreads: Bai et al. 2019, "Materials Discovery".

    python main.py --config=configs/xrd.py            default: about 12 minutes on 2 cores
    python main.py --config=configs/xrd.py:smoke      every stage in under a minute; no real results
    python main.py --config=configs/xrd.py:paper      the paper's sizes: one or more accelerators
    python main.py --config=configs/xrd.py:vgg        as :paper with VGG-19
    python main.py --config=configs/xrd.py:measured   for measured scans: the shipped model

The paper's tables, every method beside ours (docs/comparison.md); resumable job by job:

    python main.py --config=configs/xrd.py:tables           5 seeds, hours on 2 cores
    python main.py --config=configs/xrd.py:tables_smoke     every table in minutes; no real results
    python main.py --config=configs/xrd.py:tables_paper     the paper's sizes: accelerators
    python main.py --config=configs/xrd.py:tables_measured  on labelled measured patterns

What each costs and what it reached stands at its function below. Every field can be overridden:
`--config.refiner.targeted=False`, `--config.data.imperfect.severity=1.5`.
"""

from ml_collections import ConfigDict, config_dict


def get_config(preset: str = "") -> ConfigDict:
    """Returns the default config, or a preset of it.

    Args:
        preset: '', 'smoke', 'paper', 'vgg', 'measured', or 'tables' with '_smoke', '_paper',
            '_measured' or nothing after it.

    Raises:
        ValueError: unknown preset.
    """
    presets = {
        "": _default, "smoke": _smoke, "paper": _paper, "vgg": _vgg, "measured": _measured,
        "tables": _tables, "tables_smoke": _tables_smoke, "tables_paper": _tables_paper,
        "tables_measured": _tables_measured,
    }  # fmt: skip
    if preset not in presets:
        raise ValueError(f"configs/xrd.py has no preset '{preset}'; there are {sorted(presets)}")
    return presets[preset]()


def _default() -> ConfigDict:
    """Generated libraries and a slim network.

    12 min 26 s and 1.9 GB on 2 cores (seed 0, one run). Accuracy over five seeds 19.5 +- 0.7 % raw,
    40.3 +- 1.2 % refined; l1 to the truth 40.7 -> 29.6.
    """
    config = ConfigDict()
    config.task = "xrd"
    config.seed = 0

    # Data. Everything is generated; see imitation_refinement/xrd.
    data = config.data = ConfigDict()
    data.wavelength = 1.54184  # angstrom, Cu K-alpha
    data.b_iso = 0.5  # angstrom^2, Debye-Waller
    data.grid = ConfigDict({"axis": "geometric_q", "q_min": 1.1, "q_max": 5.9, "length": 2000})
    # The user's structures in the place of generated crystals: at most one of these three.
    data.cif_dir = ""  # folder of CIF files
    data.structures = ""  # JSON lines (.jsonl, .jsonl.gz): lattice, species, frac_coords, id
    data.materials_project = ""  # chemical system, such as Li-Fe-O; key in MP_API_KEY
    data.label = "crystal_system"  # of structures also space_group, or phase: one class for each
    data.ideal = ConfigDict()
    data.ideal.prototypes = 3000  # generated
    data.ideal.members = 8  # crystals per prototype or structure
    data.ideal.strain = 0.01  # of the cells of a structure's members, standard deviation
    data.ideal.smallest_class = 2  # classes with fewer structures are left out (phases never)
    data.ideal.store = "memory"  # or records: ArrayRecord files, for sets larger than memory
    data.ideal.unseen_fraction = 0.1  # of the prototypes: test split `unseen`
    data.ideal.seen_fraction = 0.1  # of the members of the others: test split `seen`
    data.ideal.size_nm = (20.0, 45.0)  # crystallite sizes of training views, log-uniform
    data.ideal.lorentzian = 0.0  # largest Lorentzian share of their peaks
    data.ideal.coverage = (0.0, 0.0)  # largest shares of the grid cut off at its two ends
    data.ideal.augment = False  # light ideal-side augmentation of training views
    data.ideal.texture = 0.12  # with it: intensities of lines times exp(N(0, texture))
    data.imperfect = ConfigDict()
    data.imperfect.measured = ""  # folder or manifest.csv of measured patterns; '': simulated ones
    data.imperfect.wavelength = ""  # of measured files that do not say: CuKa, or angstrom
    data.imperfect.count = 1494
    data.imperfect.profile = "paper_like"  # clean, mild, paper_like, hard
    data.imperfect.severity = config_dict.placeholder(float)  # 0 clean .. 3 hard, not profile
    # In the place of the profile's: what each means is said at xrd/ranges.py, Imperfection.
    data.imperfect.ranges = ConfigDict()
    for name in ("size_nm", "strain", "background", "hump", "counts"):  # (smallest, largest)
        data.imperfect.ranges[name] = config_dict.placeholder(tuple)
    for name in ("spread", "microstrain", "texture", "residual", "floor", "zero_error", "bleed"):
        data.imperfect.ranges[name] = config_dict.placeholder(float)
    for name in ("fewer", "more"):  # probability of one NMF component too few, too many
        data.imperfect.ranges[name] = config_dict.placeholder(float)
    data.imperfect.k_alpha2 = 0.0  # share of patterns with the Cu K-alpha doublet
    data.imperfect.spikes = 0.0  # expected hot pixels per pattern
    data.imperfect.missing = 0.0  # fraction of the range without data
    data.imperfect.displacement = 0.0  # sample displacement h/R, standard deviation
    data.imperfect.impurity = 0.0  # largest height of foreign lines, share of the maximum
    data.imperfect.chebyshev = 0.0  # largest height of a Chebyshev background
    data.imperfect.lorentzian = 0.0  # largest Lorentzian share of the peaks
    data.imperfect.coverage = (0.0, 0.0)  # largest shares of the grid not measured, at its two ends

    # Algorithm 1.
    classifier = config.classifier = ConfigDict()
    classifier.network = "densenet_slim"
    classifier.dtype = "float32"
    classifier.steps = 800
    classifier.batch_size = 64
    classifier.optimizer = "adam"
    classifier.learning_rate = 2e-3
    classifier.schedule = "cosine"
    classifier.warmup_steps = 100
    classifier.clip_norm = 0.0
    classifier.prototype_weight = 1.0  # lambda
    classifier.distance = "sqeuclidean"
    classifier.distance_scale = 0.0  # 0: one over the embedding's width

    # Classifiers that no refiner sees: is a gain real? Each is seeded by its name.
    judges = config.judges = ConfigDict()
    judges.other_seed = ConfigDict({**classifier.to_dict(), "data": "ideal"})
    judges.other_network = ConfigDict(judges.other_seed.to_dict())
    judges.other_network.network = "vgg_slim"
    judges.other_network.steps = 500

    # Algorithm 2.
    refiner = config.refiner = ConfigDict()
    refiner.network = "unet_62k"
    refiner.dtype = "float32"
    refiner.targeted = True
    refiner.steps = 60  # on imperfect patterns; 0: as pre-trained
    refiner.batch_size = 32  # imperfect patterns, and as many pairs
    refiner.optimizer = "adam"
    refiner.learning_rate = 5e-4
    refiner.schedule = "cosine"
    refiner.warmup_steps = 10
    refiner.clip_norm = 1.0
    refiner.prediction_weight = 1.0
    refiner.regularization_weight = 10.0  # alpha, per element
    refiner.prototype_weight = 1.0  # beta
    refiner.norm = 1.0  # p
    refiner.psi = "identity"
    # Extension: ideal patterns put through the imperfection model, whose right answer is known.
    # All zero is the paper's method.
    refiner.pair_weight = 500.0  # l1 + KL to the truth, per element
    refiner.pair_recognition = 1.0  # Eqs. 4 and 5 on pairs
    refiner.pretrain_steps = 1200  # on pairs alone, once for all folds
    refiner.pretrain_learning_rate = 3e-3
    refiner.pairs_after_pretraining = True  # False: imperfect patterns alone from then on
    refiner.ema_decay = 0.99

    # Evaluation.
    config.evaluate = ConfigDict()
    config.evaluate.folds = 5  # of the libraries
    config.evaluate.run_folds = 5  # how many of them to train a refiner for
    config.evaluate.batch_size = 128
    config.evaluate.ideal_count = 1000  # ideal patterns per split
    config.evaluate.bootstrap = 2000

    # Running. These may change between runs in one work directory.
    run = config.run = ConfigDict()
    run.workers = 0  # processes that generate data; 0: one per core
    run.threads = 1  # that render batches; more are slower: benchmarks/views.py
    run.log_every = 50
    run.checkpoint_every = 200
    run.tensorboard = False
    run.cache_dir = ""  # generated data; '': the user's cache folder
    return config


def _smoke() -> ConfigDict:
    """Every stage once, on 256 points, in about a minute, mostly compilation; means nothing."""
    config = _default()
    config.data.grid.length = 256
    config.data.ideal.prototypes = 42
    config.data.ideal.members = 3
    config.data.imperfect.count = 40
    for section in (config.classifier, *config.judges.values(), config.refiner):
        section.steps = 8
        section.batch_size = 16
        section.warmup_steps = 2
    config.refiner.pretrain_steps = 8
    config.judges.other_network.network = "densenet_slim"  # one program for all
    config.refiner.network = "unet_34k"
    config.evaluate.folds = 2
    config.evaluate.run_folds = 2
    config.evaluate.batch_size = 8  # no more than there are of any kind: one size, one program
    config.evaluate.ideal_count = 20
    config.evaluate.bootstrap = 100
    config.run.log_every = 4
    config.run.checkpoint_every = 4
    return config


def _paper() -> ConfigDict:
    """The sizes of the paper, for accelerators; not run in full.

    Steps of 32 of Algorithm 1 took 6 to 8 s and 4.2 GB on two busy cores (six tried).
    """
    config = _default()
    config.data.ideal.prototypes = 20000
    config.data.ideal.members = 12
    config.data.ideal.augment = False
    for section in (config.classifier, *config.judges.values()):
        section.steps = 46900  # 100 epochs of 469 batches
        section.update(
            network="densenet121", batch_size=512, learning_rate=1e-3, schedule="constant",
            warmup_steps=0,
        )  # fmt: skip
    config.judges.other_network.network = "vgg19"
    config.refiner.update(
        network="unet_34k", steps=3000, batch_size=128, learning_rate=1e-3, clip_norm=0.0,
        pair_weight=0.0, pair_recognition=0.0, pretrain_steps=0,
    )  # fmt: skip
    return config


def _vgg() -> ConfigDict:
    """As `paper` with VGG-19, for accelerators; not run in full."""
    config = _paper()
    config.classifier.network = "vgg19"
    config.judges.other_seed.network = "vgg19"
    config.judges.other_network.network = "densenet121"
    return config


def _measured() -> ConfigDict:
    """For laboratory scans: any range, sharp to broad Voigt peaks, both K-alpha lines, texture.

    On 2 busy cores the data took 12 minutes, the classifier 36, the refiner 16; the judges were not
    run. Its model is the one that is shipped: of 745 measured patterns, not trained on but looked
    at on the way (README), the system is right in 37.6 % raw and 38.0 % refined.
    """
    config = _default()
    data = config.data
    data.grid.q_min = 0.65  # 9.2 degrees for Cu K-alpha
    data.grid.q_max = 5.65  # 87.8 degrees
    data.ideal.prototypes = 30000
    data.ideal.members = 4
    data.ideal.size_nm = (12.0, 150.0)
    data.ideal.lorentzian = 0.8
    data.ideal.coverage = (0.25, 0.3)  # scans begin at up to 16 and end at 42 degrees or later
    data.ideal.augment = True
    data.ideal.texture = 0.3
    imperfect = data.imperfect
    imperfect.ranges.update(
        size_nm=(12.0, 120.0), texture=0.25, background=(0.01, 0.3), hump=(0.0, 0.3),
        counts=(1e3, 1e5),
    )  # fmt: skip
    imperfect.ranges.bleed = 0.02  # of one phase; with more the refiner deletes its weak peaks
    imperfect.k_alpha2 = 0.5
    imperfect.displacement = 3e-4  # 0.06 mm at a radius of 200 mm
    imperfect.impurity = 0.02
    imperfect.lorentzian = 0.8
    imperfect.coverage = (0.25, 0.3)
    config.classifier.network = config.judges.other_seed.network = "vgg_slim"
    config.judges.other_network.network = "densenet_slim"
    config.classifier.steps = 12000
    # Simulated pairs are closer to laboratory scans than unmixed films are.
    config.refiner.steps = 0
    config.refiner.pretrain_steps = 3000
    config.run.log_every = 200
    config.run.checkpoint_every = 1000
    return config


def _tables() -> ConfigDict:
    """Every method beside ours, five seeds of the default data on a coarser grid.

    8.65 core-hours on a Xeon. Accuracy: raw 24.6 +- 0.9 %, refined by ours 43.3 +- 1.4, by the
    paper's refiner 41.4 +- 1.9, mean and deviation over the seeds (docs/comparison.md).
    """
    config = _compared(_default())
    config.data.grid.length = 1024  # half the time; peaks are 1.3 to 16 points wide
    return config


def _compared(config: ConfigDict) -> ConfigDict:
    """Makes of a config for one run that of a comparison: `refiner` is ours, `tables` the rest."""
    config.task = "xrd_tables"
    tables = config.tables = ConfigDict()
    tables.seeds = 5  # from config.seed on
    # Methods through the main classifier (config.classifier), the same with lambda = 0, and both of
    # another network.
    tables.methods = (
        "raw", "dwt", "smoothed_pca", "savitzky_golay", "adda", "adda_labels", "gta", "gta_labels",
        "fine_tuned", "scratch", "simulated", "paper_targeted", "paper_non_targeted",
        "ours_targeted", "ours_non_targeted",
    )  # fmt: skip
    tables.standard_methods = ("raw", "project_page", "paper_targeted", "ours_targeted")
    tables.other_methods = (
        "raw", "paper_targeted", "paper_non_targeted", "ours_targeted", "ours_non_targeted",
    )  # fmt: skip
    tables.other_standard_methods = ("raw", "paper_targeted", "ours_targeted")
    tables.other_classifier = ConfigDict(config.classifier.to_dict())
    tables.other_classifier.update(network="vgg_slim", steps=500)

    # The refiner as in the paper: from the identity, on imperfect patterns alone.
    paper = tables.paper_refiner = ConfigDict(config.refiner.to_dict())
    paper.update(
        network="unet_34k", steps=200, learning_rate=1e-3, pair_weight=0.0, pair_recognition=0.0,
        pretrain_steps=0,
    )  # fmt: skip
    tables.non_targeted_alpha = 300.0  # of paper_non_targeted; with less it takes all for one class
    # Table 3: it with one field changed, beside either loss alone.
    tables.alphas = (1.0, 100.0)
    tables.betas = (0.1, 10.0)
    tables.norms = (2.0,)
    tables.psis = ("first_conv", "second_conv")
    tables.lambdas = (10.0,)  # of another classifier

    # Classifiers of the imperfect training patterns, from the frozen one or from scratch.
    tables.fine_tuned = ConfigDict(config.classifier.to_dict())
    del tables.fine_tuned.network
    tables.fine_tuned.update(
        prototype_weight=0.0, steps=150, batch_size=32, learning_rate=5e-4, warmup_steps=10
    )
    tables.scratch = ConfigDict(tables.fine_tuned.to_dict())
    tables.scratch.update(steps=300, learning_rate=2e-3, warmup_steps=20)

    # The classifier trained on ideal patterns that are put through the imperfection model.
    tables.simulated = ConfigDict(config.classifier.to_dict())
    del tables.simulated.network

    # Domain adaptation, through the network of the frozen classifier.
    tables.label_weight = 1.0  # of cross-entropy on imperfect patterns in adda_labels, gta_labels
    tables.adda = ConfigDict()
    tables.adda.steps = 300
    tables.adda.batch_size = 32  # of each domain, as in gta
    tables.adda.learning_rate = 2e-4  # of the target encoder
    tables.adda.discriminator_learning_rate = 2e-4
    tables.adda.discriminator_steps = 0  # of `steps`, the first, on the discriminator alone
    tables.adda.batch_norm = "train"  # of the target encoder; or eval
    tables.adda.label_weight = 0.0
    tables.gta = ConfigDict(dict(
        steps=200, batch_size=32, learning_rate=5e-4, decay=1e-4, adversarial_weight=0.1,
        target_weight=0.3,  # alpha of GTA
        noise=64, generator_features=64, discriminator_features=16,
        warm_start=True,  # from the frozen classifier
        label_weight=0.0,
    ))  # fmt: skip
    return config


def _tables_smoke() -> ConfigDict:
    """Every table in minutes; its numbers mean nothing."""
    config = _compared(_smoke())
    tables = config.tables
    tables.seeds = 1
    tables.methods = tuple(name for name in tables.methods if name not in ("adda", "gta_labels"))
    tables.standard_methods = ("raw", "project_page")
    tables.other_methods = tables.other_standard_methods = ("raw",)
    tables.alphas = tables.betas = tables.norms = tables.psis = tables.lambdas = ()
    tables.other_classifier.update(steps=8, batch_size=16, warmup_steps=2)
    tables.paper_refiner.steps = 4
    tables.fine_tuned = ConfigDict(config.classifier.to_dict())  # one program with the standard one
    del tables.fine_tuned.network
    tables.fine_tuned.prototype_weight = 0.0
    tables.scratch = ConfigDict(tables.fine_tuned.to_dict())
    tables.adda.update(steps=4, batch_size=16)
    tables.gta.update(steps=4, batch_size=16, generator_features=16, discriminator_features=4)
    return config


def _tables_paper() -> ConfigDict:
    """Every method at the sizes of the paper, for accelerators; not run yet."""
    paper, ours = _paper(), _default().refiner
    paper_refiner = paper.refiner
    paper.refiner = ours
    config = _compared(paper)
    tables = config.tables
    tables.paper_refiner = paper_refiner
    tables.other_classifier.update(network="vgg19", steps=config.classifier.steps)
    tables.fine_tuned.update(steps=2000, batch_size=128, schedule="cosine")
    tables.scratch.update(steps=5000, batch_size=128, schedule="cosine", learning_rate=1e-3)
    tables.adda.update(steps=10000, batch_size=128)
    tables.gta.update(
        steps=40000, batch_size=100, noise=512, generator_features=512, discriminator_features=64,
        warm_start=False,
    )  # fmt: skip
    return config


def _tables_measured() -> ConfigDict:
    """On a folder `measured` with a manifest.csv of labelled patterns; see docs/comparison.md.

    Real structures (`--config.data.structures`) make the better ideal set. With 9,492 of them and
    745 patterns, five seeds: 6.47 core-hours on a Xeon. Ours: l1 -33 % where structures are known,
    accuracy -0.3 points (-2.3 to +1.7). By structures, not classes: benchmarks/structure_grain.py.
    """
    measured = _measured()
    measured.data.imperfect.measured = "measured"
    measured.data.grid.length = 1024
    measured.data.ideal.prototypes = 8000
    measured.classifier.steps = measured.judges.other_seed.steps = 3000
    measured.judges.other_network.steps = 1500
    measured.refiner.steps = 60
    measured.refiner.pretrain_steps = 1500
    config = _compared(measured)
    config.tables.other_classifier.update(network="densenet_slim", steps=1500)
    config.tables.standard_methods = config.tables.other_methods = ("raw", "ours_targeted")
    config.tables.other_standard_methods = ()
    config.tables.alphas = config.tables.betas = config.tables.norms = config.tables.lambdas = ()
    config.tables.psis = ()
    return config
