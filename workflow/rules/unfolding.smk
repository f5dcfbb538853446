# Unfold the data with one method and one seed; no truth of the data is read.
rule unfolding_unfold:
    input:
        unfolding_tables,
    output:
        result=f"{OUT}/unfolding/results/{{model}}/{{variation}}/{{seed}}.h5",
        record=f"{OUT}/provenance/unfolding_unfold/{{model}}/{{variation}}/{{seed}}.json",
    log:
        f"{OUT}/logs/unfolding_unfold/{{model}}/{{variation}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_unfold/{{model}}/{{variation}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("unfolding", "methods")),
        variation=r"[\w-]+",
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(120),
        gpu=0,
    params:
        config=FROZEN,
        card=card("unfolding_unfold", "model"),
        code=code("unfolding_unfold", "model"),
    shell:
        "hepgen --record {output.record:q} unfolding unfold {params.config:q}"
        " {wildcards.model:q} {wildcards.variation:q} {wildcards.seed:q}"
        " {input:q} --output {output.result:q} > {log:q} 2>&1"


# Bin all that one method unfolded: the measurement, its replicas, the tests and toys.
rule unfolding_combine:
    input:
        tables=combined_tables,
        results=unfoldings,
    output:
        measured=f"{OUT}/unfolding/measured/{{model}}.h5",
        record=f"{OUT}/provenance/unfolding_combine/{{model}}.json",
    log:
        f"{OUT}/logs/unfolding_combine/{{model}}.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_combine/{{model}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("unfolding", "methods")),
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        config=FROZEN,
        card=card("unfolding_combine"),
        code=code("unfolding_combine"),
    shell:
        "hepgen --record {output.record:q} unfolding combine {params.config:q} {wildcards.model:q}"
        " {input:q} --output {output.measured:q} > {log:q} 2>&1"


# Test all methods: closure, stress, toys, bottom line and leakage; no truth of the data is read.
rule unfolding_verdict:
    input:
        expand(
            f"{OUT}/unfolding/measured/{{model}}.h5",
            model=names_in("unfolding", "methods"),
        ),
        measurements(*variations.JUDGED),
    output:
        f"{OUT}/unfolding/verdict.json",
        record=f"{OUT}/provenance/unfolding_verdict.json",
    log:
        f"{OUT}/logs/unfolding_verdict.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_verdict.tsv"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        config=FROZEN,
        folder=subpath(output[0], parent=True),
        card=card("unfolding_verdict"),
        code=code("unfolding_verdict"),
    shell:
        "hepgen --record {output.record:q} unfolding verdict {params.config:q}"
        " {input:q} --output {params.folder:q} > {log:q} 2>&1"


# Score the unfolded results with the truth of the data, beside the prior and no unfolding at all.
rule unfolding_evaluate:
    input:
        tables=tables(*unfolding_samples("simulation", "data", "background")),
        measured=expand(
            f"{OUT}/unfolding/measured/{{model}}.h5",
            model=names_in("unfolding", "methods"),
        ),
        results=measurements(),
    output:
        metrics=f"{OUT}/unfolding/metrics.json",
        figures=figures("unfolding", form="json"),
        record=f"{OUT}/provenance/unfolding_evaluate.json",
    log:
        f"{OUT}/logs/unfolding_evaluate.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_evaluate.tsv"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("unfolding_evaluate"),
        code=code("unfolding_evaluate"),
    shell:
        "hepgen --record {output.record:q} unfolding evaluate {params.config:q}"
        " {input:q} --output {params.folder:q} > {log:q} 2>&1"


# The deliverable: simulated events with the weights of one method.
rule unfolding_bundle:
    input:
        tables=tables(*unfolding_samples("simulation", "data", "systematics")),
        measured=f"{OUT}/unfolding/measured/{{model}}.h5",
        results=bundled,
    output:
        bundle=f"{OUT}/unfolding/bundles/{{model}}.h5",
        record=f"{OUT}/provenance/unfolding_bundle/{{model}}.json",
    log:
        f"{OUT}/logs/unfolding_bundle/{{model}}.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_bundle/{{model}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("unfolding", "methods")),
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        config=FROZEN,
        card=card("unfolding_bundle", "model"),
        code=code("unfolding_bundle", "model"),
    shell:
        "hepgen --record {output.record:q} unfolding bundle {params.config:q} {wildcards.model:q}"
        " {input:q} --output {output.bundle:q} > {log:q} 2>&1"


# The same for ROOT.
rule unfolding_export:
    input:
        f"{OUT}/unfolding/bundles/{{model}}.h5",
    output:
        bundle=f"{OUT}/unfolding/bundles/{{model}}.root",
        record=f"{OUT}/provenance/unfolding_export/{{model}}.json",
    log:
        f"{OUT}/logs/unfolding_export/{{model}}.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_export/{{model}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("unfolding", "methods")),
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code("export"),
    shell:
        "hepgen --record {output.record:q} export {input:q} --output {output.bundle:q} > {log:q} 2>&1"


# Spectra with covariances, as a submission to HEPData.
rule unfolding_hepdata:
    input:
        f"{OUT}/unfolding/measured/{{model}}.h5",
    output:
        submission=f"{OUT}/unfolding/hepdata/{{model}}.tar.gz",
        record=f"{OUT}/provenance/unfolding_hepdata/{{model}}.json",
    log:
        f"{OUT}/logs/unfolding_hepdata/{{model}}.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_hepdata/{{model}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("unfolding", "methods")),
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        config=FROZEN,
        card=card("unfolding_hepdata", "model"),
        code=code("unfolding_hepdata", "model"),
    shell:
        "hepgen --record {output.record:q} unfolding hepdata {params.config:q} {wildcards.model:q}"
        " {input:q} --output {output.submission:q} > {log:q} 2>&1"
