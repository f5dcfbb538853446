#!/bin/sh
# submit.sh RULE CPUS MEMORY/MB TIME/MINUTES GPUS SCRIPT: submit a job to PBS and print its number.
# All processes of a job get SIGTERM when its time is over. Only hepgen heeds it, so that what started hepgen lives until
# a training has written its checkpoint.
set -eu
mkdir -p .snakemake/pbs
printf "trap '' TERM\nsh '%s'\n" "$6" | qsub -V -N "$1" -j oe -o .snakemake/pbs \
  -l "select=1:ncpus=$2:mem=$3mb$([ "$5" = 0 ] || echo ":ngpus=$5")" -l "walltime=$(($4 * 60))"
