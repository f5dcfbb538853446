"""Names, paths and parameters that the rules share; everything is known from the configuration."""

import importlib
import json
import os
import re
import sys
from functools import cache
from pathlib import Path

import hepgen.config
import yaml
from hepgen import datasets, inputs, plan
from hepgen.errors import HepgenError
from hepgen.head import Head, one_line
from hepgen.samples import FileSample
from hepgen.storage import atomic, refuse_inputs
from hepgen.text import printable
from hepgen.unfolding import variations


@cache
def parts(sample):
    """The parts of a sample's files that each of its chunks reads."""
    return inputs.parts(CONFIG.samples[sample])


@cache
def total_bytes(sample):
    """How large a sample's files are together; None where that does not matter."""
    return inputs.total_bytes(CONFIG.samples[sample])


try:
    CONFIG = hepgen.config.parse(config)
    READ = [name for name, s in CONFIG.samples.items() if isinstance(s, FileSample)]
    # All files are looked for before a run; a job of a batch system may have just its own sample's.
    PARTS = [] if workflow.remote_exec else [parts(name) for name in READ]
except HepgenError as error:
    print(f"error: configuration: {printable(str(error))}", file=sys.stderr)
    sys.exit(1)

OUT = CONFIG.output
FROZEN = f"{OUT}/config.yaml"
ANALYSES = [
    name
    for name in ("tagging", "search", "generation", "unfolding", "integration")
    if getattr(CONFIG, name)
]
FIGURED = ["overview", *ANALYSES]
TABLES = [name for name, sample in CONFIG.samples.items() if sample.is_table]
STREAMS = [name for name in CONFIG.samples if name not in TABLES]


# Batch systems send SIGTERM to the processes that they started, so the command replaces its shell. A job of Slurm's that
# knows its own by their cgroup makes it a step: only these get the signal, without which a training would not write its
# last checkpoint. Elsewhere a command dies with the process that started it, so that none goes on when a run was killed;
# in a container that process is another one.
IN_CONTAINERS = "apptainer" in map(str, workflow.deployment_settings.deployment_method)
ALONE = "" if IN_CONTAINERS else f"env HEPGEN_PARENT={os.getpid()}"
STEP = (
    '$(grep -qs "slurm.*/job_${{SLURM_JOB_ID:-none}}/" /proc/self/cgroup && command -v srun > /dev/null && echo srun'
    " --overlap --nodes=1 --ntasks=1 --cpu-bind=none --mem=0 --input=none --quit-on-interrupt"
    f" || echo {ALONE})"
)
shell.prefix(f"exec {STEP if workflow.remote_exec else ALONE} ")

# Makes this folder of results the run's own, and judges what Snakemake has no metadata of.
HEAD = Head(workflow, CONFIG)

# Slurm is to send SIGTERM two minutes before a job's time is over. What sites set by `slurm_extra` goes with it.
os.environ.setdefault("SBATCH_SIGNAL", "TERM@120")


def any_of(names):
    """A regular expression for exactly the given names, or for nothing."""
    return "|".join(names) or "(?!)"


def names_in(block, key):
    """The entries of an analysis's models or methods, or of all that is trained; none where it is switched off."""
    settings = getattr(CONFIG, block)
    return list(getattr(settings, key)) if settings else []


def freeze_config():
    """Write the checked configuration beside the products, if it is not there already."""
    text = yaml.safe_dump(plan.resolved(CONFIG), sort_keys=False)
    if Path(FROZEN).exists() and Path(FROZEN).read_text() == text:
        return
    with one_line():
        refuse_inputs(FROZEN, workflow.configfiles)
        with atomic(FROZEN) as path:
            path.write_text(text)


def of_entry(function, stage, key):
    """A params function that asks `function` once for each sample, model or method, not for each job."""
    ask = cache(lambda name: function(CONFIG, stage, name))
    return lambda wildcards: ask(getattr(wildcards, key) if key else "")


def card(stage, key=None):
    """A params function: the slice of the configuration that a stage reads, in JSON.

    Snakemake puts it into its report as it is, where an angle bracket could end the script that holds it.
    """
    return of_entry(
        lambda *slice: json.dumps(plan.card(*slice)).replace("<", r"\u003c"),
        stage,
        key,
    )


def code(stage, key=None):
    """A params function: the fingerprint of the code that a stage runs."""
    return of_entry(plan.code, stage, key)


def shares(wildcards):
    """The files that a chunk is read from, each with the part of its events; none where it is simulated."""
    return (
        parts(wildcards.sample)[int(wildcards.chunk)]
        if wildcards.sample in READ
        else []
    )


def source_files(wildcards):
    """The files that a chunk is read from, as far as they are on this machine.

    Without a shared file system these are all of the sample's: which part is a chunk's depends on the others' sizes.
    """
    read = shares(wildcards)
    if wildcards.sample in READ and not workflow.storage_settings.shared_fs_usage:
        read = [part for share in parts(wildcards.sample) for part in share]
    paths = [part.path for part in read if not inputs.is_remote(part.path)]
    return list(dict.fromkeys(paths))


def planned_bytes(wildcards):
    """The option that tells a job how large the sample's files are now; none where that does not matter."""
    size = total_bytes(wildcards.sample) if wildcards.sample in READ else None
    return [] if size is None else ["--planned-bytes", str(size)]


def absent_files():
    """The files of official data sets that the samples need and that are not here, as NAME/FILE."""
    paths = {part.path for sample in PARTS for share in sample for part in share}
    return sorted(
        datasets.official_name(path) for path in paths if not Path(path).exists()
    )


def chunks(pattern, *samples):
    """Paths of all chunks of the named samples, in the order given."""
    return [
        pattern.format(out=OUT, sample=sample, chunk=chunk)
        for sample in samples
        for chunk in range(CONFIG.samples[sample].chunks)
    ]


def tables(*samples):
    """The observables of the named samples."""
    return chunks("{out}/observables/{sample}/{chunk}.h5", *samples)


def of_seeds(block, key, pattern="{model}/{seed}"):
    """One name for each model and seed of an analysis."""
    seeds = getattr(CONFIG, block).seeds if block in ANALYSES else []
    return [
        pattern.format(model=m, seed=s) for m in names_in(block, key) for s in seeds
    ]


def trainings(block, key, pattern):
    """One path for each model and seed of an analysis."""
    return of_seeds(block, key, f"{OUT}/{block}/{pattern}")


def training_samples():
    """The samples that the taggers are trained on."""
    return CONFIG.tagging.samples if CONFIG.tagging else []


def test_samples():
    """The samples that the taggers are tested on."""
    if not CONFIG.tagging:
        return []
    return [*(CONFIG.tagging.test or CONFIG.tagging.samples), *CONFIG.tagging.transfer]


def searched_scores():
    """The scores of the taggers that a search cuts on."""
    models = CONFIG.search.taggers if CONFIG.search else []
    return [
        path
        for path in trainings("tagging", "models", "scores/{model}/{seed}.h5")
        if Path(path).parent.name in models
    ]


def external_scores():
    """The files of other tools' scores.

    Rules ask for them job by job, for the report shows plain lists of inputs as they are, angle brackets and all.
    """
    return list(CONFIG.tagging.external.values()) if CONFIG.tagging else []


def generation_samples():
    """The samples that the generators learn."""
    return CONFIG.generation.samples if CONFIG.generation else []


def timings(*samples):
    """How long each simulated chunk of the samples took, from generator to observables."""
    simulated = [name for name in samples if CONFIG.samples[name].source == "pythia"]
    return [
        path
        for stage in ("ingest", "observe")
        for path in chunks(
            f"{{out}}/benchmarks/{stage}/{{sample}}/{{chunk}}.tsv", *simulated
        )
    ]


def unfolding_samples(*parts):
    """The samples that play these parts in unfolding: simulation, data, background, systematics."""
    named = [getattr(CONFIG.unfolding, part) for part in parts if CONFIG.unfolding]
    return [
        name
        for names in named
        for name in ([names] if isinstance(names, str) else names)
    ]


def unfolding_tables(wildcards):
    """What one unfolding reads: another simulation only where it is that one's turn."""
    variation = variations.find(CONFIG.unfolding, wildcards.model, wildcards.variation)
    others = [variation.sample] if variation.sample else []
    return tables(*unfolding_samples("simulation", "data", "background"), *others)


def combined_tables(wildcards):
    """What the combination of a method reads: other simulations only where it is unfolded with them."""
    runs = variations.runs(CONFIG.unfolding, wildcards.model)
    others = dict.fromkeys(run.variation.sample for run in runs if run.variation.sample)
    return tables(*unfolding_samples("simulation", "data", "background"), *others)


def unfoldings(wildcards):
    """All unfoldings of a method."""
    return _results(variations.runs(CONFIG.unfolding, wildcards.model))


def measurements(*kinds):
    """The unfoldings of the data as they are, or of some kinds of variations, of all methods and seeds."""
    runs = variations.runs(CONFIG.unfolding) if CONFIG.unfolding else []
    wanted = kinds or ("nominal",)
    return _results(run for run in runs if run.variation.kind in wanted)


def bundled(wildcards):
    """The unfoldings that a method's result and its uncertainties are made of."""
    found = variations.runs(CONFIG.unfolding, wildcards.model)
    return _results(run for run in found if run.variation.kind in variations.MEASURED)


def studied_methods():
    """The methods of unfolding whose uncertainties are known."""
    return variations.studied(CONFIG.unfolding) if CONFIG.unfolding else []


def weighted_methods():
    """Those of them that weight events."""
    methods = CONFIG.unfolding.methods if CONFIG.unfolding else {}
    return [name for name in studied_methods() if methods[name].type != "ibu"]


def published():
    """Events with weights, and spectra for HEPData, of all methods whose uncertainties are known."""
    bundles = [
        f"{OUT}/unfolding/bundles/{name}.{form}"
        for name in weighted_methods()
        for form in ("h5", "root")
    ]
    return [
        *bundles,
        *(f"{OUT}/unfolding/hepdata/{name}.tar.gz" for name in studied_methods()),
    ]


def verdicts():
    """What the unfolding's tests found."""
    return [f"{OUT}/unfolding/verdict.json"] if CONFIG.unfolding else []


def unfolded(runs=None):
    """The names of unfoldings, of all without any given."""
    if runs is None:
        runs = variations.runs(CONFIG.unfolding) if CONFIG.unfolding else []
    return [f"{run.method}/{run.variation.name}/{run.seed}" for run in runs]


def _results(runs):
    return [f"{OUT}/unfolding/results/{name}.h5" for name in unfolded(runs)]


def figure_names(name):
    """The figures of an analysis, or of the overview."""
    return (
        importlib.import_module(f"hepgen.{name}.figures").figure_names(CONFIG)
        if name in FIGURED
        else []
    )


def figures(*names, form="png"):
    """Paths of the figures of the named analyses."""
    return [
        f"{OUT}/{name}/figures/{figure}.{form}"
        for name in names
        for figure in figure_names(name)
    ]


def reported(name):
    """The figures of an analysis with their places and captions in the report."""
    flagged = []
    for path in figures(name):
        figure = Path(path).stem
        place = {
            "category": name.capitalize(),
            "labels": {"figure": figure.replace("_", " ")},
            "caption": f"../report/{caption_of(name, figure)}.rst",
        }
        flagged.append(report(path, **place))
    return flagged


def caption_of(name, figure):
    """A figure's own caption, or the one that its kind shares: `observable` for `observable_mass_j1`."""
    words = figure.split("_")
    shared = ["_".join([name, *words[:end]]) for end in range(len(words), -1, -1)]
    captions = Path(workflow.basedir, "workflow", "report")
    return next(
        (caption for caption in shared if (captions / f"{caption}.rst").exists()),
        shared[0],
    )


def analysis(name):
    """Everything that an analysis delivers."""
    if name not in ANALYSES:
        return []
    further = [*verdicts(), *published()] if name == "unfolding" else []
    return [f"{OUT}/{name}/metrics.json", *figures(name), *further]


def jobs():
    """The names of all jobs of the run but its account, RULE/WILDCARDS: so are their logs and records called."""
    named = {
        "ingest": chunks("{sample}/{chunk}", *STREAMS),
        "table": chunks("{sample}/{chunk}", *TABLES),
        "observe": chunks("{sample}/{chunk}", *STREAMS),
        "tagging_train": of_seeds("tagging", "entries"),
        "tagging_score": of_seeds("tagging", "entries"),
        "generation_train": of_seeds("generation", "models"),
        "generation_sample": of_seeds("generation", "models"),
        "integration_sample": of_seeds("integration", "methods"),
        "unfolding_unfold": unfolded(),
        "unfolding_combine": names_in("unfolding", "methods"),
        "unfolding_bundle": weighted_methods(),
        "unfolding_export": weighted_methods(),
        "unfolding_hepdata": studied_methods(),
    }
    once = [
        *(f"{name}_evaluate" for name in ANALYSES),
        *(f"{name}_plot" for name in FIGURED),
        "overview",
    ]
    once += ["unfolding_verdict"] if verdicts() else []
    return [
        *(f"{rule}/{name}" for rule, names in named.items() for name in names),
        *once,
        "summary",
    ]


def asked_memory(wildcards, resources):
    """The options that say how much memory each rule asks for at its first attempt.

    It takes `resources`, as Snakemake reruns nothing for such a function's value: what a site gives is no reason to.
    """
    named = dict.fromkeys(job.partition("/")[0] for job in jobs())
    return [
        f"--asked={name}={workflow.get_rule(name).expand_resources({}, [], 1).mem_mb}"
        for name in named
    ]


def growing(base):
    """A resources function: the base, doubled at each further attempt, up to eight times as much."""
    return lambda wildcards, attempt: base * min(2 ** (attempt - 1), 8)
