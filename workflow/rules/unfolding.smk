# Unfold the data with one method and one seed; no truth of the data is read.
rule unfolding_unfold:
    input:
        tables(*unfolding_samples()),
    output:
        f"{OUT}/unfolding/results/{{model}}/{{seed}}.h5",
    log:
        f"{OUT}/logs/unfolding_unfold/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/unfolding_unfold/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("unfolding", "methods")),
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
        "hepgen unfolding unfold {params.config:q} {wildcards.model:q} {wildcards.seed:q}"
        " {input:q} --output {output:q} > {log:q} 2>&1"


# Score the unfolded results with the truth of the data, beside the prior and no unfolding at all.
rule unfolding_evaluate:
    input:
        tables=tables(*unfolding_samples()),
        results=trainings("unfolding", "methods", "results/{model}/{seed}.h5"),
    output:
        metrics=f"{OUT}/unfolding/metrics.json",
        figures=figures("unfolding", form="json"),
    log:
        f"{OUT}/logs/unfolding_evaluate.log",
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
        "hepgen unfolding evaluate {params.config:q} {input:q} --output {params.folder:q} > {log:q} 2>&1"
