# Train one tagger with one seed.
rule tagging_train:
    input:
        tables(*training_samples()),
    output:
        model=f"{OUT}/tagging/models/{{model}}/{{seed}}.safetensors",
        record=f"{OUT}/provenance/tagging_train/{{model}}/{{seed}}.json",
    log:
        f"{OUT}/logs/tagging_train/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/tagging_train/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("tagging", "entries")),
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(120),
        gpu=0,
    params:
        config=FROZEN,
        card=card("tagging_train", "model"),
        code=code("tagging_train", "model"),
    shell:
        "hepgen --record {output.record:q} tagging train {params.config:q}"
        " {wildcards.model:q} {wildcards.seed:q} {input:q}"
        " --output {output.model:q} > {log:q} 2>&1"


# Score the held-out events with a trained tagger.
rule tagging_score:
    input:
        model=f"{OUT}/tagging/models/{{model}}/{{seed}}.safetensors",
        tables=tables(*test_samples()),
    output:
        scores=f"{OUT}/tagging/scores/{{model}}/{{seed}}.h5",
        record=f"{OUT}/provenance/tagging_score/{{model}}/{{seed}}.json",
    log:
        f"{OUT}/logs/tagging_score/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/tagging_score/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("tagging", "entries")),
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=0,
    params:
        config=FROZEN,
        card=card("tagging_score", "model"),
        code=code("tagging_score", "model"),
    shell:
        "hepgen --record {output.record:q} tagging score {params.config:q}"
        " {input.model:q} {input.tables:q}"
        " --output {output.scores:q} > {log:q} 2>&1"


# Compare all taggers and cuts over all seeds: figures of merit and the numbers behind the figures.
rule tagging_evaluate:
    input:
        tables=tables(*test_samples()),
        scores=trainings("tagging", "entries", "scores/{model}/{seed}.h5"),
        external=lambda wildcards: external_scores(),
    output:
        metrics=f"{OUT}/tagging/metrics.json",
        figures=figures("tagging", form="json"),
        record=f"{OUT}/provenance/tagging_evaluate.json",
    log:
        f"{OUT}/logs/tagging_evaluate.log",
    benchmark:
        f"{OUT}/benchmarks/tagging_evaluate.tsv"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("tagging_evaluate"),
        code=code("tagging_evaluate"),
    shell:
        "hepgen --record {output.record:q} tagging evaluate {params.config:q}"
        " {input.tables:q} {input.scores:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
