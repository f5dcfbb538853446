from hepgen.plots.histories import training_curves


def test_training_curves_stop_with_the_shortest_training():
    figure = training_curves({"a": {"train": [[3, 2, 1], [3, 2]], "validation": [[], []]}})
    assert [line.x for line in figure.lines] == [[1, 2]]
    assert training_curves({"b": {"train": [[]], "validation": [[]]}}).notes
