# hepgen's workflow: what is run, from samples to the report.
#
#   snakemake --cores 2                                            the embedded analysis
#   snakemake tagging --cores 2 --configfile config/lhco.yaml      one analysis of another configuration
#   snakemake --cores 2 --until tagging_train                      one stage
from snakemake.utils import min_version

min_version("9.21")

if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


# What containers/hepgen.def makes; used with --software-deployment-method apptainer. Otherwise jobs run in the
# environment that snakemake was started from.
container: "containers/hepgen.sif"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


wildcard_constraints:
    sample=any_of(CONFIG.samples),
    chunk=r"\d+",
    seed=r"\d+",


include: "workflow/rules/samples.smk"
include: "workflow/rules/tagging.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/generation.smk"
include: "workflow/rules/unfolding.smk"
include: "workflow/rules/integration.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    fetch,
    samples,
    tagging,
    search,
    generation,
    unfolding,
    integration,


# The configuration that the jobs read is frozen, so that a logged command can be run again by hand.
onstart:
    HEAD.start()
    freeze_config()


onsuccess:
    HEAD.end()


onerror:
    HEAD.end()


rule all:
    default_target: True
    input:
        f"{OUT}/metrics.json",
        figures(*FIGURED),
        published(),
        f"{OUT}/tables/cost.html",


rule samples:
    input:
        tables(*CONFIG.samples),


rule tagging:
    input:
        analysis("tagging"),


rule search:
    input:
        analysis("search"),


rule generation:
    input:
        analysis("generation"),


rule unfolding:
    input:
        analysis("unfolding"),


rule integration:
    input:
        analysis("integration"),
