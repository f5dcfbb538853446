# Train one generator with one seed; these jobs take longest, so they start first.
rule generation_train:
    input:
        tables(*generation_samples()),
    output:
        model=f"{OUT}/generation/models/{{model}}/{{seed}}.safetensors",
        record=f"{OUT}/provenance/generation_train/{{model}}/{{seed}}.json",
    log:
        f"{OUT}/logs/generation_train/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/generation_train/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("generation", "models")),
    priority: 1
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(120),
        gpu=0,
    params:
        config=FROZEN,
        card=card("generation_train", "model"),
        code=code("generation_train", "model"),
    shell:
        "hepgen --record {output.record:q} generation train {params.config:q}"
        " {wildcards.model:q} {wildcards.seed:q} {input:q}"
        " --output {output.model:q} > {log:q} 2>&1"


# Draw events from a trained generator; held-out truth tells how likely it finds them.
rule generation_sample:
    input:
        model=f"{OUT}/generation/models/{{model}}/{{seed}}.safetensors",
        tables=tables(*generation_samples()),
    output:
        events=f"{OUT}/generation/events/{{model}}/{{seed}}.h5",
        record=f"{OUT}/provenance/generation_sample/{{model}}/{{seed}}.json",
    log:
        f"{OUT}/logs/generation_sample/{{model}}/{{seed}}.log",
    benchmark:
        f"{OUT}/benchmarks/generation_sample/{{model}}/{{seed}}.tsv"
    wildcard_constraints:
        model=any_of(names_in("generation", "models")),
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(60),
        gpu=0,
    params:
        config=FROZEN,
        card=card("generation_sample", "model"),
        code=code("generation_sample", "model"),
    shell:
        "hepgen --record {output.record:q} generation sample {params.config:q}"
        " {input.model:q} {input.tables:q} --output {output.events:q} > {log:q} 2>&1"


# Hold the generated events against truth that no model has seen.
rule generation_evaluate:
    input:
        tables=tables(*generation_samples()),
        events=trainings("generation", "models", "events/{model}/{seed}.h5"),
        timings=timings(*generation_samples()),
    output:
        metrics=f"{OUT}/generation/metrics.json",
        figures=figures("generation", form="json"),
        record=f"{OUT}/provenance/generation_evaluate.json",
    log:
        f"{OUT}/logs/generation_evaluate.log",
    benchmark:
        f"{OUT}/benchmarks/generation_evaluate.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("generation_evaluate"),
        code=code("generation_evaluate"),
    shell:
        "hepgen --record {output.record:q} generation evaluate {params.config:q}"
        " {input:q} --output {params.folder:q} > {log:q} 2>&1"
