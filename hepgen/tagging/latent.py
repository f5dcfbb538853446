"""What the taggers see and how they encode it: jet images, reconstructions, codes."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from hepgen.plots.figures import BAND, Axis, Corner, Image, Images, Layer, Points

__all__ = ["collapse", "corner", "interpolation", "mean_images", "reconstructions"]

CLASSES = ("background", "signal")
DIMENSIONS = 6
BINS = 28
# Shares of the events inside the contours.
CONTOURS = (0.95, 0.68)
# A dimension whose code has a smaller variance is called collapsed, after Burda, Grosse, Salakhutdinov 2015,
# arXiv:1509.00519.
ACTIVITY = 0.01


def corner(name: str, latents: Sequence[dict[str, np.ndarray]], seed: int) -> Corner:
    """Codes of background and signal in the first training, in its six most active dimensions at most.

    Args:
        name: The model's.
        latents: For each training ``code`` (n, d) and ``label`` (n,), and ``divergence`` (n, d) of a variational one.
        seed: The first training's.
    """
    code, label = latents[0]["code"], latents[0]["label"]
    chosen = np.sort(np.argsort(-code.var(0), kind="stable")[:DIMENSIONS])
    edges = [_edges(code[:, dimension], label) for dimension in chosen]
    members = {word: code[label == number][:, chosen] for number, word in enumerate(CLASSES)}
    # With tests on further signals alone, the main events have one class.
    layers = [_layer(word, codes, edges) for word, codes in members.items() if len(codes)]
    left_out = code.shape[1] - len(chosen)
    return Corner(
        title=f"Codes, {name}",
        axes=[Axis(label=f"$z_{{{dimension + 1}}}$") for dimension in chosen],
        edges=[values.tolist() for values in edges],
        layers=layers,
        notes=[
            f"training with seed {seed}; contours hold 68 and 95 % of the events",
            *([f"the {left_out} least active of {code.shape[1]} dimensions are left out"] if left_out else []),
        ],
    )


def _edges(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Bins that hold nearly all of either class, with a margin that the smoothing needs."""
    ends = [np.quantile(values[label == number], [0.005, 0.995]) for number in np.unique(label)]
    low, high = np.min(ends), np.max(ends)
    pad = 0.15 * (high - low) or 1.0
    return np.linspace(low - pad, high + pad, BINS + 1)


def _layer(label: str, code: np.ndarray, edges: list[np.ndarray]) -> Layer:
    marginals = [np.histogram(values, bins, density=True)[0] for values, bins in zip(code.T, edges, strict=True)]
    pairs, levels = [], []
    for row, column in zip(*np.tril_indices(len(edges), -1), strict=True):
        counts, _, _ = np.histogram2d(code[:, row], code[:, column], [edges[row], edges[column]])
        density = gaussian_filter(counts, 1.0)
        pairs.append((density / density.sum()).tolist())
        levels.append(_levels(np.array(pairs[-1])))
    return Layer(label=label, marginals=[np.nan_to_num(m).tolist() for m in marginals], pairs=pairs, levels=levels)


def _levels(density: np.ndarray) -> list[float]:
    """Heights of the contours that hold the shares CONTOURS of a normalised density, rising."""
    ordered = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ordered)
    low, high = (float(ordered[np.searchsorted(inside, share)]) for share in CONTOURS)
    return [low, high if high > low else np.nextafter(low, np.inf)]


def collapse(name: str, latents: Sequence[dict[str, np.ndarray]], normal: int) -> Points:
    """How much each dimension of the code varies from event to event, over trainings, and which carry nothing.

    A dimension is active if the variance of its code over events exceeds 0.01, after Burda et al. (2015, 1509.00519):
    of the mean code for a variational model, whose prior has variance 1. Other codes have no scale of their own, so
    that their variance is taken relative to that of the most active dimension.

    Args:
        name: The model's.
        latents: What each training left, as for `corner`.
        normal: The label of the events that the model learnt.
    """
    variational = "divergence" in latents[0]
    deviations, divergences, active = [], [], []
    for latent in latents:
        chosen = latent["label"] == normal
        deviation = latent["code"][chosen].astype(np.float64).std(0)
        deviation = deviation if variational else deviation / (deviation.max() or 1.0)
        order = np.argsort(-deviation, kind="stable")
        deviations.append(deviation[order])
        active.append(int(np.sum(deviation**2 > ACTIVITY)))
        if variational:
            divergences.append(latent["divergence"][chosen].mean(0)[order])
    size = len(deviations[0])
    series = {"standard deviation of the code" + ("" if variational else ", relative to the largest"): deviations}
    series |= {"mean KL divergence [nats]": divergences} if variational else {}
    return Points(
        title=f"Activity of the code, {name}",
        categories=[f"{number + 1}" for number in range(size)],
        series={
            label: [(middle, low, high) for low, middle, high in np.quantile(runs, BAND, axis=0).T.tolist()]
            for label, runs in series.items()
        },
        floor=[float(np.sqrt(ACTIVITY))] * size,
        floor_label="collapsed below (activity 0.01)",
        y=Axis(label="over " + ("background" if normal == 0 else "signal") + " events"),
        notes=[
            f"active dimensions of {size}, by training: {', '.join(map(str, active))}",
            "dimensions by activity in each training; median and 68 % over trainings",
        ],
    )


def mean_images(images: dict[str, np.ndarray], width: float) -> Images:
    """Mean image of the leading jet for background and signal."""
    return _images("Mean jet image", [[_image(kind, images[f"{kind}/mean"]) for kind in CLASSES]], width)


def reconstructions(name: str, seed: int, images: dict[str, np.ndarray], width: float) -> Images:
    """Input, reconstruction and difference of example events, one column each, from the training of one seed."""
    known = [key for key in ("input", "reconstruction") if f"{CLASSES[0]}/{key}" in images]
    columns = [
        (kind, {key: images[f"{kind}/{key}"][number] for key in known})
        for kind in CLASSES
        for number in range(len(images[f"{kind}/input"]))
    ]
    rows = [[_image(kind, column["input"]) for kind, column in columns]]
    if "reconstruction" in known:
        rows.append([_image("reconstruction", column["reconstruction"]) for _, column in columns])
        rows.append([_image("difference", column["input"] - column["reconstruction"]) for _, column in columns])
    return _images(f"Jet images, {name}, training with seed {seed}", rows, width)


def interpolation(name: str, seed: int, images: dict[str, np.ndarray], width: float) -> Images:
    """What the decoder makes of the straight line between the codes of a background and a signal jet."""
    path = images["interpolation"]
    titles = ["background", *(f"{step / (len(path) - 1):.2f}" for step in range(1, len(path) - 1)), "signal"]
    row = [_image(title, values) for title, values in zip(titles, path, strict=True)]
    return _images(f"Path between two codes, {name}, training with seed {seed}", [row], width)


def _images(title: str, rows: list[list[Image]], width: float) -> Images:
    return Images(
        title=title,
        rows=rows,
        window=(-width / 2, width / 2),
        x=Axis(label=r"$\eta'$"),
        y=Axis(label=r"$\phi'$"),
        color=Axis(label=r"pixel $p_T$ fraction", log=True),
    )


def _image(title: str, values: np.ndarray) -> Image:
    return Image(title=title, values=values.tolist())
