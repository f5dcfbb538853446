# Hunt for bumps after cuts on the taggers' scores.
rule search_evaluate:
    input:
        tables=tables(*test_samples()),
        scores=searched_scores(),
    output:
        metrics=f"{OUT}/search/metrics.json",
        figures=figures("search", form="json"),
        workspaces=directory(f"{OUT}/search/workspaces"),
    log:
        f"{OUT}/logs/search_evaluate.log",
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
        "hepgen search {params.config:q} {input.tables:q} {input.scores:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
