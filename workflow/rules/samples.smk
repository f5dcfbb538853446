# Files of official data sets that are not here. One that is here is a plain input, which nothing can make or delete.
rule fetch:
    output:
        f"{datasets.folder()}/{{absent}}",
    log:
        f"{OUT}/logs/fetch/{{absent}}.log",
    wildcard_constraints:
        absent=any_of(map(re.escape, filter(None, absent_files()))),
    threads: 1
    shell:
        "hepgen fetch {wildcards.absent:q} > {log:q} 2>&1"


# Anything that holds events, cut into chunks and brought into the Events store.
rule ingest:
    input:
        source_files,
    output:
        chunk=f"{OUT}/events/{{sample}}/{{chunk}}.h5",
        record=f"{OUT}/provenance/ingest/{{sample}}/{{chunk}}.json",
    log:
        f"{OUT}/logs/ingest/{{sample}}/{{chunk}}.log",
    benchmark:
        f"{OUT}/benchmarks/ingest/{{sample}}/{{chunk}}.tsv"
    wildcard_constraints:
        sample=any_of(STREAMS),
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        config=FROZEN,
        size=planned_bytes,
        part=lambda wildcards: [
            f"{p.path} {p.start}-{p.stop}" for p in shares(wildcards)
        ],
        card=card("ingest", "sample"),
        code=code("ingest", "sample"),
    shell:
        "hepgen --record {output.record:q} ingest {params.config:q}"
        " {wildcards.sample:q} {wildcards.chunk:q}"
        " --output {output.chunk:q} {params.size:q} > {log:q} 2>&1"


# Tables of observables need no clustering: they enter the workflow here.
use rule ingest as table with:
    output:
        chunk=f"{OUT}/observables/{{sample}}/{{chunk}}.h5",
        record=f"{OUT}/provenance/table/{{sample}}/{{chunk}}.json",
    log:
        f"{OUT}/logs/table/{{sample}}/{{chunk}}.log",
    benchmark:
        f"{OUT}/benchmarks/table/{{sample}}/{{chunk}}.tsv"
    wildcard_constraints:
        sample=any_of(TABLES),


# Jets, their substructure and all observables of a chunk of events.
rule observe:
    input:
        f"{OUT}/events/{{sample}}/{{chunk}}.h5",
    output:
        observables=f"{OUT}/observables/{{sample}}/{{chunk}}.h5",
        record=f"{OUT}/provenance/observe/{{sample}}/{{chunk}}.json",
    log:
        f"{OUT}/logs/observe/{{sample}}/{{chunk}}.log",
    benchmark:
        f"{OUT}/benchmarks/observe/{{sample}}/{{chunk}}.tsv"
    wildcard_constraints:
        sample=any_of(STREAMS),
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(60),
    params:
        config=FROZEN,
        card=card("observe", "sample"),
        code=code("observe", "sample"),
    shell:
        "hepgen --record {output.record:q} observe {params.config:q} {wildcards.sample:q} {input:q}"
        " --output {output.observables:q} > {log:q} 2>&1"
