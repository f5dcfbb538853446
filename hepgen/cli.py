"""The command line: one command a stage, in the order of the analysis; no logic of its own."""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hepgen.config import Config, json_schema, load
from hepgen.errors import HepgenError
from hepgen.plan import provenance
from hepgen.runs import end_with
from hepgen.storage import describe_h5
from hepgen.text import printable

__all__ = ["app", "main"]

RECORD: ContextVar[Path | None] = ContextVar("record", default=None)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Anomaly detection, fast simulation and unfolding for collider physics, stage by stage.",
)
tagging = typer.Typer(no_args_is_help=True, help="Train anomaly taggers, score held-out events, compare.")
generation = typer.Typer(no_args_is_help=True, help="Train event generators, draw events, hold them against truth.")
unfolding = typer.Typer(no_args_is_help=True, help="Correct a measured sample for the detector, compare methods.")
integration = typer.Typer(no_args_is_help=True, help="Integrate and sample a matrix element, compare methods.")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration file.", show_default=False)]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Products of the stages before.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.", show_default=False)]
Folder = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where to write.", show_default=False)]
Device = Annotated[str, typer.Option(help="Where to compute: auto (a GPU where there is one), cpu or cuda.")]
Seed = Annotated[int, typer.Argument(metavar="SEED", help="Seed of the training.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="An entry of the analysis's models.")]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model.")]
Sample = Annotated[str, typer.Argument(metavar="SAMPLE", help="An entry of the samples block.")]


@app.callback()
def begin(
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write here how the products of a stage came about.", show_default=False),
    ] = None,
) -> None:
    """Keep what all commands share."""
    RECORD.set(record)


def _recorded(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command, called as its stage is in `hepgen.plan`, leave a record of its job where one is asked for."""

    @wraps(command)
    def run(**given: Any) -> None:
        path = RECORD.get()
        if path is None:
            command(**given)
            return
        from hepgen.record import recording_command

        with recording_command(path, command.__name__, given):
            command(**given)

    return run


def _unrecorded(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command refuse to leave a record."""

    @wraps(command)
    def run(**given: Any) -> None:
        if path := RECORD.get():
            msg = f"--record {path}: this command leaves no record, only those of a run do; leave the option out"
            raise HepgenError(msg)
        command(**given)

    return run


@app.command(rich_help_panel="Before a run")
def check(config: ConfigFile) -> None:
    """Check a configuration file and say what it would run."""
    from hepgen.summary import describe

    print(describe(load(config)))


@app.command(rich_help_panel="Before a run")
def inspect(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files of one kind, patterns or addresses.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="CONFIG", help="Write the configuration here.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sample; else it is made from the file's.")] = None,
    kind: Annotated[
        Literal["particles", "jets", "observables"] | None,
        typer.Option("--as", help="What to read, where there is a choice."),
    ] = None,
) -> None:
    """Say what files hold, and write a configuration that reads them."""
    from hepgen.inspection import inspect, report

    report.deliver(inspect(files, name, kind), output)


@app.command(rich_help_panel="Before a run")
def schema() -> None:
    """Print the JSON Schema of configuration files."""
    print(json.dumps(json_schema(), indent=2))


@app.command(rich_help_panel="Before a run")
def datasets() -> None:
    """List the official data sets, and how much of them is here."""
    from hepgen.datasets import overview

    rows = overview()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


@app.command(rich_help_panel="Before a run")
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME[/PATTERN]...", help="Data sets, or some of their files.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where to; HEPGEN_DATA or data otherwise.")
    ] = None,
) -> None:
    """Download official data sets and check them; what is here already is only checked."""
    from hepgen.datasets import fetch as get
    from hepgen.datasets import folder, select

    for file in [file for name in names for file in select(name)]:
        print(get(file, output or folder()), flush=True)


@app.command(rich_help_panel="Stages of a run")
@_recorded
def ingest(
    config: ConfigFile,
    name: Sample,
    chunk: Annotated[int, typer.Argument(metavar="CHUNK", help="Which chunk of the sample, from 0.")],
    output: Output,
    planned_bytes: Annotated[
        int | None, typer.Option(help="How large the sample's files were when the run was planned.")
    ] = None,
) -> None:
    """Simulate or read one chunk of a sample."""
    from hepgen.sources.produce import produce

    print(f"{output}: {produce(load(config), name, chunk, output, planned_bytes)} events")


@app.command(rich_help_panel="Stages of a run")
@_recorded
def observe(
    config: ConfigFile,
    name: Sample,
    events: Annotated[Path, typer.Argument(metavar="EVENTS", help="Events of the sample.")],
    output: Output,
) -> None:
    """Cluster jets and compute all observables of a chunk."""
    from hepgen.jets import observe_file
    from hepgen.ready_jets import observer

    settings = load(config)
    definition = settings.jets_of(name)
    stamp = provenance(settings, "observe", name)
    kept = observe_file(events, output, definition, observe=observer(settings.samples[name]), provenance=stamp)
    print(f"{output}: {kept} rows")


@tagging.command("train")
@_recorded
def tagging_train(
    config: ConfigFile, model: Model, seed: Seed, files: Files, output: Output, device: Device = "auto"
) -> None:
    """Train one tagger with one seed."""
    from hepgen.tagging.train import train

    train(_load(config, "tagging"), model, seed, _tables(files), output, device)


@tagging.command("score")
@_recorded
def tagging_score(config: ConfigFile, model: ModelFile, files: Files, output: Output, device: Device = "auto") -> None:
    """Score the held-out events with a trained tagger."""
    from hepgen.tagging.score import score

    score(_load(config, "tagging"), model, _tables(files), output, device)


@tagging.command("evaluate")
@_recorded
def tagging_evaluate(config: ConfigFile, files: Files, output: Folder) -> None:
    """Compare all taggers and cuts over all seeds, from tables and scores."""
    from hepgen.tagging.evaluate import evaluate

    evaluate(_load(config, "tagging"), _tables(files), _of_kind(files, "scores"), output)


@tagging.command("split")
def tagging_split(config: ConfigFile, files: Files, output: Output) -> None:
    """Write which events are trained, validated and tested on, for tools of your own: HDF5, or npz by the suffix."""
    from hepgen.tagging.external import write_split

    print(f"{output}: {write_split(_load(config, 'tagging'), _tables(files), output)} events")


@generation.command("train")
@_recorded
def generation_train(
    config: ConfigFile, model: Model, seed: Seed, files: Files, output: Output, device: Device = "auto"
) -> None:
    """Train one generator with one seed."""
    from hepgen.generation.train import train

    settings = _load(config, "generation")
    train(settings, model, seed, _tables(files), output, device)


@generation.command("sample")
@_recorded
def generation_sample(
    config: ConfigFile, model: ModelFile, files: Files, output: Output, device: Device = "auto"
) -> None:
    """Draw events from a trained generator, and see how likely it finds those held out, from tables."""
    from hepgen.generation.sample import sample as draw

    draw(_load(config, "generation"), model, _tables(files), output, device)


@generation.command("evaluate")
@_recorded
def generation_evaluate(config: ConfigFile, files: Files, output: Folder) -> None:
    """Hold all generated events against truth never seen, from tables, events and the simulation's timings."""
    from hepgen.generation.evaluate import evaluate

    settings = _load(config, "generation")
    timings = [file for file in files if file.suffix == ".tsv"]
    evaluate(settings, _tables(files), _of_kind(files, "generated"), output, timings)


@unfolding.command("unfold")
@_recorded
def unfolding_unfold(
    config: ConfigFile,
    method: Model,
    variation: Annotated[str, typer.Argument(metavar="VARIATION", help="nominal, or e.g. data-3, closure, toy-1.")],
    seed: Seed,
    files: Files,
    output: Output,
    device: Device = "auto",
) -> None:
    """Unfold the data, or a variation of them, with one method and one seed."""
    from hepgen.unfolding.unfold import unfold

    unfold(_load(config, "unfolding"), method, variation, seed, _tables(files), output, device)


@unfolding.command("learn")
def unfolding_learn(
    config: ConfigFile, method: Model, seed: Seed, files: Files, output: Output, device: Device = "auto"
) -> None:
    """Train the flows that the posterior of an event's truth is drawn from, with one seed, from tables."""
    from hepgen.unfolding.posterior import learn_posterior

    learn_posterior(_load(config, "unfolding"), method, seed, _tables(files), output, device)


@unfolding.command("posterior")
def unfolding_posterior(
    model: ModelFile,
    files: Files,
    output: Output,
    candidates: Annotated[int, typer.Option(min=1, help="Weighted truths for each event.")] = 8,
    seed: Annotated[int, typer.Option(help="Another one draws others.")] = 0,
    device: Device = "auto",
) -> None:
    """Draw weighted truths for the measured events of one sample's tables."""
    from hepgen.unfolding.posterior import draw_posterior

    effective = draw_posterior(model, _tables(files), output, candidates=candidates, seed=seed, device=device)
    print(f"{output}: {candidates} truths for each event, worth {effective:.1f} independent ones on average")


@unfolding.command("combine")
@_recorded
def unfolding_combine(config: ConfigFile, method: Model, files: Files, output: Output) -> None:
    """Bin all unfoldings of one method, from tables and results."""
    from hepgen.unfolding.results import combine

    combine(_load(config, "unfolding"), method, _tables(files), _of_kind(files, "unfolded"), output)


@unfolding.command("evaluate")
@_recorded
def unfolding_evaluate(config: ConfigFile, files: Files, output: Folder) -> None:
    """Compare all methods with the truth, the prior and no unfolding, from tables and results."""
    from hepgen.unfolding.evaluate import evaluate

    settings, kinds = _load(config, "unfolding"), ("measured", "unfolded")
    evaluate(settings, _tables(files), *(_of_kind(files, kind) for kind in kinds), output)


@unfolding.command("verdict")
@_recorded
def unfolding_verdict(config: ConfigFile, files: Files, output: Folder) -> None:
    """Test all methods, from measured spectra and results: pass, fail or not applicable."""
    from hepgen.unfolding.verdict import verdict

    settings, kinds = _load(config, "unfolding"), ("measured", "unfolded")
    verdict(settings, *(_of_kind(files, kind) for kind in kinds), output)


@unfolding.command("bundle")
@_recorded
def unfolding_bundle(config: ConfigFile, method: Model, files: Files, output: Output) -> None:
    """Write the simulated events with one method's weights, from tables, measured spectra and results."""
    from hepgen.unfolding.bundle import write_bundle

    settings, kinds = _load(config, "unfolding"), ("measured", "unfolded")
    given = [_of_kind(files, kind) for kind in kinds]
    print(f"{output}: {write_bundle(settings, method, _tables(files), *given, output)} events")


@unfolding.command("histogram")
def unfolding_histogram(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Events with weights, in HDF5.")],
    observable: Annotated[
        list[str], typer.Option(metavar="EXPRESSION", help="Of the events' columns; a second one makes a plane.")
    ],
    edges: Annotated[list[str], typer.Option(metavar="EDGES", help="Bin edges, such as 0,10,20.5; one for each.")],
    normalised: Annotated[bool, typer.Option("--normalised", help="Unit area within the bins.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="A .json file, with covariances, or .csv.")
    ] = None,
) -> None:
    """Print the unfolded histogram of any observable, with its uncertainties by source."""
    from hepgen.unfolding.histogram import deliver

    deliver(bundle, observable, edges, output, normalised=normalised)


@unfolding.command("hepdata")
@_recorded
def unfolding_hepdata(config: ConfigFile, method: Model, files: Files, output: Output) -> None:
    """Write one method's spectra with their covariances as a submission to HEPData, from measured spectra."""
    from hepgen.unfolding.hepdata import write_submission

    tables = write_submission(_load(config, "unfolding"), method, _of_kind(files, "measured"), output)
    print(f"{output}: {tables} tables")


@integration.command("sample")
@_recorded
def integration_sample(config: ConfigFile, method: Model, seed: Seed, output: Output, device: Device = "auto") -> None:
    """Adapt one method with one seed and draw weighted events of the matrix element."""
    from hepgen.integration.sample import sample as draw

    print(f"{output}: {draw(_load(config, 'integration'), method, seed, output, device)} events")


@integration.command("evaluate")
@_recorded
def integration_evaluate(config: ConfigFile, files: Files, output: Folder) -> None:
    """Compare the integrals and the events of all methods, and the integral with quadrature."""
    from hepgen.integration.evaluate import evaluate

    evaluate(_load(config, "integration"), _of_kind(files, "weighted"), output)


app.add_typer(tagging, name="tagging", rich_help_panel="Stages of a run")
app.add_typer(generation, name="generation", rich_help_panel="Stages of a run")
app.add_typer(unfolding, name="unfolding", rich_help_panel="Stages of a run")
app.add_typer(integration, name="integration", rich_help_panel="Stages of a run")


@app.command(rich_help_panel="Stages of a run")
@_recorded
def overview(config: ConfigFile, files: Files, output: Folder) -> None:
    """Compare the observables of all samples, from their tables."""
    from hepgen.overview.evaluate import evaluate

    evaluate(load(config), _tables(files), output)


@app.command(rich_help_panel="Stages of a run")
@_recorded
def search(config: ConfigFile, files: Files, output: Folder) -> None:
    """Hunt for bumps after cuts on the taggers' scores, from tables and scores."""
    from hepgen.search.evaluate import evaluate

    evaluate(_load(config, "search"), _tables(files), _of_kind(files, "scores"), output)


@app.command(rich_help_panel="After a run")
@_recorded
def plot(files: Annotated[list[Path], typer.Argument(metavar="FIGURE.json...", help="Numbers to draw.")]) -> None:
    """Draw figures as PDF and PNG beside their numbers."""
    from hepgen.plots.draw import draw_files

    draw_files(files)


@app.command(rich_help_panel="After a run")
@_recorded
def export(
    files: Files,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="A .root, .h5, .parquet, .npz or .onnx file to write."),
    ],
    rntuple: Annotated[bool, typer.Option("--rntuple", help="Write an RNTuple rather than a TTree (.root).")] = False,
    tree: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the tree (.root); default: events.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Whose plug-ins a model is of (.onnx).")
    ] = None,
) -> None:
    """Write products for other tools: .root, .h5, .parquet or .npz; trained models: .onnx."""
    if config:
        load(config)
    if output.suffix == ".onnx":
        from hepgen.export.onnx import export_model

        if tree is not None or rntuple:
            msg = f"{output}: --tree and --rntuple are for .root files"
            raise HepgenError(msg)
        print(f"{output}: {export_model(files, output)}")
        return
    from hepgen.export import export as write

    print(f"{output}: {write(files, output, tree=tree, rntuple=rntuple)} rows")


@app.command(rich_help_panel="After a run")
def sample(
    model: ModelFile,
    number: Annotated[str, typer.Option("-n", metavar="N", help="How many events: 1000, 50k, 10M.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A .root, .h5, .parquet or .npz file to write.")
    ],
    seed: Annotated[int, typer.Option(help="Another one means other events.")] = 0,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="What all events are to have; may be repeated. Else as in training."),
    ] = None,
    device: Device = "auto",
    config: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG", help="Whose plug-ins the generator is of.")
    ] = None,
) -> None:
    """Draw events from a trained generator; the same command takes up a run that was stopped."""
    from hepgen.export.stream import stream

    if config:
        load(config)
    written = stream(model, number, output, seed=seed, fixed=condition or (), device=device)
    print(f"{output}: {written} events")


@app.command(rich_help_panel="After a run")
@_recorded
def summary(config: ConfigFile, files: Files, output: Folder) -> None:
    """Gather the metrics of all analyses into tables and the report's front page."""
    from hepgen.summary import summarize

    summarize(load(config), files, output)


@app.command(rich_help_panel="After a run")
@_recorded
def account(
    records: Annotated[list[Path], typer.Argument(metavar="RECORD...", help="Records of a run's jobs.")],
    output: Folder,
    asked: Annotated[
        list[str] | None, typer.Option(metavar="RULE=MB", help="Memory that a rule asks for; may be repeated.")
    ] = None,
) -> None:
    """Write tables of what a run cost and how its products came about."""
    from hepgen.account import write_tables

    write_tables(records, output, asked or [])


@app.command(rich_help_panel="After a run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def status(
    context: typer.Context,
    config: ConfigFile,
    full: Annotated[bool, typer.Option("--full", help="Name every job that would run, not a few.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the run at work until its end.")] = False,
) -> None:
    """Say which jobs of a run are done, running, failed or stale and why, and what would run now.

    Whatever else is given goes to Snakemake, as in the run: targets, --config, --directory, --workflow-profile.
    """
    from hepgen.status.report import show

    # Last, for Snakemake would take targets after it for further files.
    show([*context.args, "--configfile", str(config)], full=full, watch=watch)


@app.command("provenance", rich_help_panel="After a run")
def lineage(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Any product of a run, or a copy of one.")],
    results: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run's results; else those that the file lies in.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Hold the files before it against their checksums, too, not only its own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records whole.")] = False,
) -> None:
    """Print how a file came about, back to the inputs, and what has changed since."""
    from hepgen.lineage.report import deliver

    deliver(file, results, contents=check, as_json=as_json)


for part in (app, tagging, generation, unfolding, integration):
    for entry in part.registered_commands:
        if not hasattr(entry.callback, "__wrapped__"):
            entry.callback = _unrecorded(entry.callback)


def _load(path: Path, analysis: str) -> Config:
    """A configuration that has the block of an analysis."""
    config = load(path)
    if getattr(config, analysis) is None:
        msg = f"{path}: has no {analysis!r} block, so there is nothing to do for this command"
        raise HepgenError(msg)
    return config


class _Tables(dict[str, list[Path]]):
    """Paths by sample; asking for a sample that was not given is the user's mistake."""

    def __missing__(self, sample: str) -> list[Path]:
        msg = f"no table of observables of sample {sample!r} was given; given: {', '.join(self) or 'none'}"
        raise HepgenError(msg)


def _tables(files: list[Path]) -> dict[str, list[Path]]:
    """The observables among the files, by sample."""
    tables = _Tables()
    # In the order of the chunks, whatever the order that a shell's glob gives: splits depend on it.
    for file in sorted(_of_kind(files, "observables"), key=lambda path: (len(path.name), path.name)):
        tables.setdefault(describe_h5(file)[1], []).append(file)
    return tables


def _of_kind(files: list[Path], kind: str) -> list[Path]:
    """The HDF5 products of a kind among the files."""
    return [file for file in files if file.suffix == ".h5" and describe_h5(file)[0] == kind]


def main() -> None:
    """Run the command line; a user's mistake ends in one message and status 1."""
    # A batch system stops jobs by SIGTERM, which would otherwise leave half-written files behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # A file's name need not be text.
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if parent := os.environ.pop("HEPGEN_PARENT", ""):
            end_with(int(parent))
        app()
    except HepgenError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
