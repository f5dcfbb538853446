"""Principal components, and the linear autoencoder that finds the same subspace by training."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models.autoencoders import LinearAutoencoder
from hepgen.models.linear import PCA
from hepgen.training import train


@pytest.fixture(scope="module")
def x():
    generator = torch.Generator().manual_seed(1)
    plane = torch.randn(2, 6, generator=generator)
    return torch.randn(400, 2, generator=generator) @ plane + 0.1 * torch.randn(400, 6, generator=generator)


@pytest.mark.parametrize("components", [1, 3, 5])
def test_pca_equals_scikit_learn(x, components):
    ours, theirs = PCA((6,), components=components).fit(x), SklearnPCA(components).fit(x.double().numpy())
    expected = theirs.inverse_transform(theirs.transform(x.double().numpy()))
    # Single precision of values of order one.
    np.testing.assert_allclose(ours.reconstruct(x).numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(np.abs((ours.components.numpy() * theirs.components_).sum(1)), 1, atol=1e-5)


class Rows:
    """Rows that are made when they are indexed, few at a time."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        assert len(index) < len(self.x)
        return self.x[index]


def test_pca_of_events_made_in_parts_equals_the_singular_value_decomposition():
    """Images of 64 pixels about a mean ten times their width; to a float32's precision of directions of length one."""
    generator = torch.Generator().manual_seed(1)
    x = 10 + torch.randn(2000, 5, generator=generator) @ torch.randn(5, 64, generator=generator)
    x = (x + 0.3 * torch.randn(2000, 64, generator=generator)).reshape(2000, 1, 8, 8)
    weight = torch.rand(2000, generator=generator)
    pca = PCA((1, 8, 8), components=5).fit(Rows(x), weight)
    flat, share = x.flatten(1).double(), weight.double()[:, None]
    mean = (share * flat).sum(0) / share.sum()
    directions = torch.linalg.svd(share.sqrt() * (flat - mean), full_matrices=False).Vh[:5]
    projector = pca.components.T @ pca.components
    torch.testing.assert_close(projector.double(), directions.T @ directions, rtol=0, atol=1e-6)
    torch.testing.assert_close(pca.mean.double(), mean, rtol=1e-6, atol=0)


def test_a_linear_autoencoder_spans_the_subspace_of_pca(x):
    """Baldi and Hornik 1989: no better linear reconstruction exists, and training finds it."""
    torch.manual_seed(1)
    linear = LinearAutoencoder((6,), latent_dim=2)
    train(linear, [x], settings=Training(epochs=40, batch_size=50, learning_rate=0.05), seed=1, verbose=False)
    pca = PCA((6,), components=2).fit(x)
    with torch.no_grad():
        learnt, _ = torch.linalg.qr(linear.decoder.weight)
        cosines = torch.linalg.svdvals(pca.components @ learnt)
        # Principal angles; 0.1 degrees were measured, and random planes of 6 dimensions are tens of degrees apart.
        assert torch.rad2deg(torch.arccos(cosines.clamp(max=1))).max() < 1.0
        best = float(pca.score(x).mean())
        assert best <= float(linear.score(x).mean()) < 1.05 * best  # of a variance 100 times as large


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PCA((4,), components=4), "less than the 4 inputs"),
        (lambda: PCA((4,)).fit(torch.zeros(2, 4)), "2 training events cannot fix 2 components"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(HepgenError, match=message):
        make()
