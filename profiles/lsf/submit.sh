#!/bin/sh
# submit.sh RULE CPUS MEMORY/MB TIME/MINUTES GPUS SCRIPT: submit a job to LSF and print its number.
# All processes of a job get SIGTERM two minutes before its time is over. Only hepgen heeds it, so that what started
# hepgen lives until a training has written its checkpoint.
set -eu
mkdir -p .snakemake/lsf
answer=$(bsub -J "$1" -n "$2" -R "span[hosts=1] rusage[mem=$3MB]" -M "$3MB" -W "$4" -wt 2 -wa TERM \
  $([ "$5" = 0 ] || echo "-gpu num=$5") -o ".snakemake/lsf/$1-%J.log" "trap '' TERM; sh '$6'")
echo "$answer" | sed -n 's/^Job <\([0-9]*\)>.*/\1/p'
