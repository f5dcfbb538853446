# Hunt for bumps after cuts on the taggers' scores.
rule search_evaluate:
    input:
        tables=tables(*test_samples()),
        scores=searched_scores(),
    output:
        metrics=f"{OUT}/search/metrics.json",
        figures=figures("search", form="json"),
        workspaces=directory(f"{OUT}/search/workspaces"),
        record=f"{OUT}/provenance/search_evaluate.json",
    log:
        f"{OUT}/logs/search_evaluate.log",
    benchmark:
        f"{OUT}/benchmarks/search_evaluate.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("search"),
        code=code("search"),
    shell:
        "hepgen --record {output.record:q} search {params.config:q}"
        " {input.tables:q} {input.scores:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
