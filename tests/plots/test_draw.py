import numpy as np
import pytest
from matplotlib import pyplot as plt

from hepgen.plots.draw import draw, draw_files
from hepgen.plots.figures import (
    Axis,
    Comparison,
    Corner,
    Curves,
    Group,
    Histogram,
    Image,
    Images,
    Layer,
    Line,
    Map,
    Maps,
    Marker,
    Panels,
    Points,
    Scatter,
    read_figure,
    steps,
    write_figure,
)

MJJ = Axis(label="$m_{jj}$ [GeV]")
COMPARISON = Comparison(
    title="dijet mass",
    edges=[0, 1, 2, 3],
    histograms=[
        Histogram(label="truth", values=[4, 2, 0], errors=[1, 0.5, 0], role="reference"),
        Histogram(label="data", values=[5, 2, 1], errors=[2, 1.4, 1], role="data"),
        Histogram(label="flow", values=[4, 3, 1], errors=[2, 1.7, 1], total=[2, 2, 2]),
    ],
    x=MJJ,
    y=Axis(label="events"),
    notes=["χ²/ndf 1.0"],
)
CURVES = Curves(
    title="ROC",
    lines=[
        Line(label="AE", x=[0.1, 0.5, 1], y=[100, 10, 1], low=[80, 9, 1], high=[120, 11, 1]),
        Line(label="random", x=[0.1, 0.5, 1], y=[10, 2, 1], role="guide"),
    ],
    x=Axis(label="signal efficiency"),
    y=Axis(label="background rejection", log=True),
    markers=[Marker(label="floor", at=0.2, axis="x")],
)
PIXELS = np.arange(16.0).reshape(4, 4)
IMAGES = Images(
    title="jets",
    rows=[
        [Image(title="input", values=PIXELS.tolist()), Image(title="output", values=PIXELS.tolist())],
        [Image(title="residual", values=(PIXELS - 8).tolist())],
    ],
    window=(-0.8, 0.8),
    x=Axis(label=r"$\eta$"),
    y=Axis(label=r"$\phi$"),
    color=Axis(label="$p_T$ fraction", log=True),
)
POINTS = Points(
    title="triangular discriminator",
    categories=["mass", "width"],
    series={"OmniFold": [(1, 0.9, 1.2), (2, 1.8, 2.1)], "IBU": [(3, 2.9, 3.1), (1, 0.9, 1.2)]},
    floor=[0.5, 0.6],
    y=Axis(label="Δ × 10³", log=True),
)
ROWS = Points(
    title="all taggers",
    categories=["AE", "cut"],
    series={"models": [(0.7, 0.6, 0.8), None], "cuts": [None, (0.5, 0.4, 0.6)]},
    roles={"cuts": "cut"},
    floor=[0.51, None],
    y=Axis(label="AUC"),
    horizontal=True,
    markers=[Marker(label="random", at=0.5, axis="x")],
)
PANELS = Panels(
    title="uncertainties",
    panels=[
        Curves(title=title, lines=[steps(label, [0, 1, 2], y) for label in labels], x=MJJ, y=Axis(label="share"))
        for title, labels, y in (("IBU", ("total", "data"), [1, 2]), ("OmniFold", ("seeds", "data"), [np.nan, 2]))
    ],
    notes=["by source"],
)
MAPS = Maps(
    title="correlation",
    maps=[Map(title="IBU", values=[[1, -0.5], [-0.5, 1]]), Map(title="OmniFold", values=[[1, 0.2], [0.2, None]])],
    edges=([0, 1, 3], [0, 2, 3]),
    x=MJJ,
    y=Axis(label="width"),
    color=Axis(label="coefficient", range=(-1, 1)),
    center=0,
)
RESPONSE = MAPS.model_copy(update={"title": "response", "color": Axis(label="share", log=True), "center": None})
BARS = [(0, 0, 0), (1, 1, 1), (100, 90, 120)]
SCATTER = Scatter(
    title="scan",
    groups=[Group(label=f"AE {n}", x=BARS, y=[(n, n - 0.1, n + 0.1)] * 3, joined=True) for n in range(12)],
    lines=[Line(label="ceiling", x=[0, 100], y=[3, 4], low=[2, 3], high=[4, 5], role="guide")],
    x=Axis(label="strength", log=True, linear=1.0),
    y=Axis(label="AUC"),
)


def corner(size):
    grid = np.exp(-np.add.outer((PIXELS[0] - 2) ** 2, (PIXELS[0] - 1) ** 2))
    pairs = size * (size - 1) // 2
    layers = [
        Layer(label=label, marginals=[[1, 2, 2, 1]] * size, pairs=[grid.tolist()] * pairs, levels=[[0.1, 0.5]] * pairs)
        for label in ("background", "signal")
    ]
    axes = [Axis(label=f"$z_{number}$") for number in range(size)]
    return Corner(title=f"codes {size}", axes=axes, edges=[[0, 1, 2, 3, 4]] * size, layers=layers)


@pytest.mark.parametrize(
    "figure",
    [COMPARISON, CURVES, IMAGES, MAPS, RESPONSE, PANELS, POINTS, ROWS, SCATTER, corner(1), corner(2), corner(3)],
    ids=lambda figure: figure.title,
)
def test_every_kind_is_drawn_from_its_file_with_all_its_labels(tmp_path, figure):
    path = tmp_path / "figure.json"
    write_figure(path, figure)
    assert read_figure(path) == figure
    draw_files([path])
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    canvas = draw(figure)
    texts = {text.get_text() for text in canvas.findobj(plt.Text)}
    plt.close(canvas)
    assert figure.title in texts
    for part in figure.panels if figure.kind == "panels" else [figure]:
        for axis in getattr(part, "axes", None) or [part.x, part.y] if part.kind != "points" else [part.y]:
            assert any(axis.label in text for text in texts)
        named = [item for kind in ("groups", "layers", "lines") for item in getattr(part, kind, [])]
        titles = {one.title for one in getattr(part, "maps", [part])}
        assert {*getattr(part, "series", {}), *titles, *(item.label for item in named)} <= texts


def test_what_has_one_label_looks_the_same_in_every_panel():
    canvas = draw(PANELS)
    looks = [{line.get_label(): line.get_color() for line in ax.lines} for ax in canvas.axes]
    (legend,) = canvas.legends
    labels = [text.get_text() for text in legend.get_texts()]
    plt.close(canvas)
    assert looks[0]["data"] == looks[1]["data"]
    assert len({*looks[0].values(), *looks[1].values()}) == 3
    assert labels == ["total", "data", "seeds"]


def test_cells_below_the_centre_are_hatched_and_unknown_ones_empty():
    canvas = draw(MAPS)
    shown, hatched = canvas.axes[0].collections
    unknown = canvas.axes[1].collections[0].get_array()
    plt.close(canvas)
    assert hatched.get_hatch()
    assert hatched.get_array().count() == 2
    np.testing.assert_array_equal(np.ma.getmaskarray(unknown), [[False, False], [False, True]])
    np.testing.assert_allclose(shown.get_clim(), (-1, 1))


def test_no_two_of_many_look_the_same():
    canvas = draw(SCATTER)
    handles, labels = canvas.axes[0].get_legend_handles_labels()
    plt.close(canvas)
    looks = {(h.lines[0].get_color(), h.lines[0].get_marker()) for h in handles if hasattr(h, "lines")}
    assert len(looks) == len(labels) - 1 == 12


def test_ratio_is_to_the_reference():
    canvas = draw(COMPARISON)
    ratio = canvas.axes[1]
    points = ratio.containers[0].lines[0].get_ydata()
    plt.close(canvas)
    assert points == pytest.approx([1.25, 1.0, float("nan")], nan_ok=True)


def test_models_apart_have_a_ratio_panel_each():
    other = COMPARISON.histograms[2].model_copy(update={"label": "GAN"})
    canvas = draw(COMPARISON.model_copy(update={"histograms": [*COMPARISON.histograms, other], "apart": True}))
    named = [[text.get_text() for text in ax.texts] for ax in canvas.axes[1:]]
    points = [len(ax.containers) for ax in canvas.axes[1:]]
    plt.close(canvas)
    assert named == [["flow"], ["GAN"]]
    assert points == [1, 1]


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_figure(tmp_path / f"{name}.json", CURVES)
    draw_files([tmp_path / "a.json", tmp_path / "b.json"])
    for suffix in ("png", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    line = Line(label="broken", x=[0, 1], y=[0, float("nan")])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_figure(tmp_path / "figure.json", CURVES.model_copy(update={"lines": [line]}))
    assert not list(tmp_path.iterdir())
