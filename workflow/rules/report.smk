# The observables of all samples side by side.
rule overview:
    input:
        tables(*CONFIG.samples),
    output:
        figures("overview", form="json"),
        record=f"{OUT}/provenance/overview.json",
    log:
        f"{OUT}/logs/overview.log",
    benchmark:
        f"{OUT}/benchmarks/overview.tsv"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(30),
    params:
        config=FROZEN,
        folder=subpath(output[0], ancestor=2),
        card=card("overview"),
        code=code("overview"),
    shell:
        "hepgen --record {output.record:q} overview {params.config:q}"
        " {input:q} --output {params.folder:q} > {log:q} 2>&1"


# Draw figures from the numbers that a stage wrote; one rule for each stage that makes some.
for name in FIGURED:

    rule:
        name:
            f"{name}_plot"
        input:
            figures(name, form="json"),
        output:
            reported(name),
            figures(name, form="pdf"),
            record=f"{OUT}/provenance/{name}_plot.json",
        log:
            f"{OUT}/logs/{name}_plot.log",
        benchmark:
            f"{OUT}/benchmarks/{name}_plot.tsv"
        threads: 1
        resources:
            mem_mb=growing(1500),
            runtime=growing(30),
        params:
            code=code("plot"),
        shell:
            "hepgen --record {output.record:q} plot {input:q} > {log:q} 2>&1"


# Gather the metrics of all analyses into the tables and the front page of the report.
rule summary:
    input:
        expand(f"{OUT}/{{analysis}}/metrics.json", analysis=ANALYSES),
        verdicts(),
        tables(*CONFIG.samples),
    output:
        metrics=f"{OUT}/metrics.json",
        front_page=f"{OUT}/summary.rst",
        tables=report(
            expand(
                f"{OUT}/tables/{{table}}.html",
                table=[*(["samples"] if CONFIG.samples else []), *ANALYSES],
            ),
            category="Tables",
            caption="../report/tables.rst",
        ),
        tests=report(
            [f"{OUT}/tables/tests.html"] if verdicts() else [],
            category="Tables",
            caption="../report/tests.rst",
        ),
        record=f"{OUT}/provenance/summary.json",
    log:
        f"{OUT}/logs/summary.log",
    benchmark:
        f"{OUT}/benchmarks/summary.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        config=FROZEN,
        folder=subpath(output.metrics, parent=True),
        card=card("summary"),
        code=code("summary"),
    shell:
        "hepgen --record {output.record:q} summary {params.config:q}"
        " {input:q} --output {params.folder:q} > {log:q} 2>&1"


# What the run cost, and how its products came about, from the records of all jobs.
rule account:
    input:
        [f"{OUT}/provenance/{job}.json" for job in jobs()],
    output:
        cost=report(
            f"{OUT}/tables/cost.html",
            category="Tables",
            caption="../report/cost.rst",
        ),
        origin=report(
            f"{OUT}/tables/provenance.html",
            category="Tables",
            caption="../report/provenance.rst",
        ),
        inputs=report(
            [f"{OUT}/tables/inputs.html"] if READ or external_scores() else [],
            category="Tables",
            caption="../report/inputs.rst",
        ),
        record=f"{OUT}/provenance/account.json",
    log:
        f"{OUT}/logs/account.log",
    benchmark:
        f"{OUT}/benchmarks/account.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        folder=subpath(output.cost, ancestor=2),
        asked=asked_memory,
        code=code("account"),
    shell:
        "hepgen --record {output.record:q} account {input:q} {params.asked:q}"
        " --output {params.folder:q} > {log:q} 2>&1"
