# Train one tagger with one seed.
rule tagging_train:
    input:
        tables(*training_samples()),
    output:
        f"{OUT}/tagging/models/{{model}}/{{seed}}.safetensors",
    log:
        f"{OUT}/logs/tagging_train/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/tagging_train/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("tagging", "entries")),
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
        gpu=0,
    params:
        config=FROZEN,
        card=card("tagging_train", "model"),
        code=code("tagging_train", "model"),
    shell:
        "hepgen tagging train {params.config:q} {wildcards.model:q} {wildcards.seed:q} {input:q}"
        " --output {output:q} > {log:q} 2>&1"


# Score the held-out events with a trained tagger.
rule tagging_score:
    input:
        model=f"{OUT}/tagging/models/{{model}}/{{seed}}.safetensors",
        tables=tables(*test_samples()),
    output:
        f"{OUT}/tagging/scores/{{model}}/{{seed}}.h5",
    log:
        f"{OUT}/logs/tagging_score/{{model}}/{{seed}}.log",
    wildcard_constraints:
        model=any_of(names_in("tagging", "entries")),
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        config=FROZEN,
        card=card("tagging_score", "model"),
        code=code("tagging_score", "model"),
    shell:
        "hepgen tagging score {params.config:q} {input.model:q} {input.tables:q}"
        " --output {output:q} > {log:q} 2>&1"


# Compare all taggers and cuts over all seeds: figures of merit and the numbers behind the figures.
rule tagging_evaluate:
    input:
        tables=tables(*test_samples()),
        scores=trainings("tagging", "entries", "scores/{model}/{seed}.h5"),
        external=external_scores(),
    output:
        metrics=f"{OUT}/tagging/metrics.json",
        figures=figures("tagging", form="json"),
    log:
        f"{OUT}/logs/tagging_evaluate.log",
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("tagging_evaluate"),
        code=code("tagging_evaluate"),
    shell:
        "hepgen tagging evaluate {params.config:q} {input.tables:q} {input.scores:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
