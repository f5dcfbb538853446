# Adapt one method to the matrix element with one seed, then draw weighted events; no sample is read.
rule integration_sample:
    output:
        events=f"{OUT}/integration/events/{{model}}/{{seed}}.h5",
        record=f"{OUT}/provenance/integration_sample/{{model}}/{{seed}}.json",
    log:
        f"{OUT}/logs/integration_sample/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/integration_sample/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("integration", "methods")),
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
        gpu=0,
    params:
        config=FROZEN,
        card=card("integration_sample", "model"),
        code=code("integration_sample", "model"),
    shell:
        "hepgen --record {output.record:q} integration sample {params.config:q}"
        " {wildcards.model:q} {wildcards.seed:q}"
        " --output {output.events:q} > {log:q} 2>&1"


# Hold all methods' integrals against quadrature and their events against each other.
rule integration_evaluate:
    input:
        trainings("integration", "methods", "events/{model}/{seed}.h5"),
    output:
        metrics=f"{OUT}/integration/metrics.json",
        figures=figures("integration", form="json"),
        record=f"{OUT}/provenance/integration_evaluate.json",
    log:
        f"{OUT}/logs/integration_evaluate.log",
    benchmark:
        f"{OUT}/benchmarks/integration_evaluate.tsv"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("integration_evaluate"),
        code=code("integration_evaluate"),
    shell:
        "hepgen --record {output.record:q} integration evaluate {params.config:q}"
        " {input:q} --output {params.folder:q} > {log:q} 2>&1"
