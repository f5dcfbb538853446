"""Networks and estimators by name: arrays in, arrays out, no physics.

A tagger is a class whose constructor takes the shape of one event's input and, keyword-only, its settings:
``Tagger(shape, *, ...)``. Tensors have one event, or jet, in each row: x of shape (n, *shape), scores of shape (n,).

- Either ``loss(x[, y][, weight])``, a scalar that `hepgen.training` minimises (None in evaluation mode where it
  measures no progress: the last weights are kept), or ``fit(x[, y][, weight], *, seed)``, whose x may be a tensor or
  make the rows of an index tensor on demand (`hepgen.training.Indexable`). The labels y come with
  ``supervised = True`` alone, weights where an event's is not 1.
- ``score(x, kind)``: higher is more anomalous; deterministic, each event by itself. ``kinds`` names the scores, the
  first one is the default; a tagger without ``kinds`` has ``score(x)`` only.
- ``state_dict()`` and ``load_state_dict(state)``: all that the scores need, as tensors.
- Optional: ``encode(x)`` gives codes (n, latent), ``decode(code)`` and ``reconstruct(x)`` events (n, *shape),
  ``divergence(x)`` what each dimension of a variational code knows, (n, latent); ``calibrate(x)`` is called once after
  the training with some of its inputs, to set buffers that scores need.

tests/models/test_taggers.py holds every registered tagger to this.

A generator is a torch module whose constructor takes the shape of one event, how many conditions it is told of each,
and, keyword-only, its settings: ``Generator(shape, conditions, *, ...)``. Tensors are float32 and have one event in
each row: x of shape (n, *shape), conditions c of shape (n, conditions), which may be 0, weights of shape (n,).

- Either ``loss(x, c[, weight])``, or the modules ``generator`` and ``discriminator`` with ``discriminator_loss`` and
  ``generator_loss`` of the same arguments; see `hepgen.training`.
- ``noise(n, generator)``: random numbers for n events, of shape (n, k), from a generator of the CPU, so that a seed
  means the same events on every device. ``draw(noise, c)``: the events that it makes of them, each by itself;
  deterministic, without gradients. ``batch``: for how many events at once that is fastest on a CPU.
- ``scaler``: the preprocessing that it wants, see `hepgen.generation.scaling.make_scaler`; ``mirror_eta``: whether
  it wants to be trained on events reflected at random along the beam.
- ``makes_features``, ``makes_images``, ``makes_constituents``: True, in the class's body, for what it makes; where
  one is given, a configuration that asks for another one is refused before anything is read.
- Optional: ``log_prob(x, c)``, the exact log-density of events, (n,); ``pretrains``: whether it still waits to learn;
  ``uniforms``: how many of an event's random numbers, the last ones, are uniform in [0, 1) rather than normal.

tests/models/test_generators.py holds every registered generator to this.

A classifier is a class whose constructor takes how many observables it sees of an event and, keyword-only, its
settings: ``Classifier(features, *, ...)``. It learns to tell two weighted samples apart. Its inputs are the observables
x of shape (n, features), of order one, and, where it sees constituents, those of a jet, (pT, η, φ) of shape
(n, any number, 3), each of order one, whose padding has pT = 0. Labels y are probabilities of class 1, (n,); weights w
have a mean of about 1, (n,). All are float32.

- Either ``loss(*inputs, y, w)`` of a torch module, a scalar that `hepgen.training` minimises, or
  ``fit(*inputs, y, w, *, validation, seed)``, where ``validation`` is the same list of events that are held out, whose
  loss decides when to stop.
- ``predict(*inputs)``: logits of class 1, float64 of shape (n,) on the CPU, without gradients; each event by itself.
  They tend to the logarithm of the ratio of the classes' weights at x.
- ``sees_observables``, ``sees_constituents``: True, in the class's body, for what it may be given: observables alone,
  or constituents beside them.

tests/models/test_classifiers.py holds every registered classifier to this.
"""

from hepgen.registry import Registry

__all__ = ["CLASSIFIERS", "GENERATORS", "TAGGERS"]

TAGGERS = Registry(
    "tagger",
    {
        "pca": "hepgen.models.linear:PCA",
        "linear_autoencoder": "hepgen.models.autoencoders:LinearAutoencoder",
        "dense_autoencoder": "hepgen.models.autoencoders:DenseAutoencoder",
        "conv_autoencoder": "hepgen.models.autoencoders:ConvAutoencoder",
        "qcd_or_what": "hepgen.models.published:QCDOrWhat",
        "farina_dense": "hepgen.models.published:FarinaDense",
        "farina_conv": "hepgen.models.published:FarinaConv",
        "constituent_autoencoder": "hepgen.models.set_autoencoder:ConstituentAutoencoder",
        "normalised_autoencoder": "hepgen.models.normalised:NormalisedAutoencoder",
        "isolation_forest": "hepgen.models.trees:IsolationForest",
        "gradient_boosting": "hepgen.models.trees:GradientBoosting",
        "mlp_classifier": "hepgen.models.supervised:DenseClassifier",
        "cnn_classifier": "hepgen.models.supervised:ConvClassifier",
        "deep_sets": "hepgen.models.supervised:DeepSets",
    },
)

GENERATORS = Registry(
    "generator",
    {
        "rqs_flow": "hepgen.models.flows:RQSCouplingFlow",
        "affine_flow": "hepgen.models.flows:AffineCouplingFlow",
        "maf": "hepgen.models.flows:MaskedAutoregressiveFlow",
        "dijet_gan": "hepgen.models.gans:DijetGAN",
        "gan": "hepgen.models.gans:TableGAN",
        "dcgan": "hepgen.models.image_gans:DCGAN",
        "lagan": "hepgen.models.image_gans:LAGAN",
        "vae": "hepgen.models.variational:VAE",
        "diffusion": "hepgen.models.diffusion:Diffusion",
        "flow_matching": "hepgen.models.diffusion:FlowMatching",
    },
)

CLASSIFIERS = Registry(
    "classifier",
    {
        "mlp": "hepgen.models.classifiers:MLPClassifier",
        "deep_sets": "hepgen.models.classifiers:DeepSetsClassifier",
        "gradient_boosting": "hepgen.models.trees:BoostedClassifier",
    },
)
