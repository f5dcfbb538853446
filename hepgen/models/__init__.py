"""Networks and estimators by name: arrays in, arrays out, no physics."""

from hepgen.registry import Registry

__all__ = ["CLASSIFIERS", "GENERATORS", "TAGGERS"]

TAGGERS = Registry(
    "tagger",
    {
        "pca": "hepgen.models.linear:PCA",
        "dense_autoencoder": "hepgen.models.autoencoders:DenseAutoencoder",
        "conv_autoencoder": "hepgen.models.autoencoders:ConvAutoencoder",
        "gradient_boosting": "hepgen.models.trees:GradientBoosting",
    },
)

GENERATORS = Registry(
    "generator",
    {
        "rqs_flow": "hepgen.models.flows:RQSCouplingFlow",
        "dijet_gan": "hepgen.models.gans:DijetGAN",
    },
)

CLASSIFIERS = Registry(
    "classifier",
    {
        "mlp": "hepgen.models.classifiers:MLPClassifier",
    },
)
