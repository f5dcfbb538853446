#!/bin/sh
# HTCondor starts this on its machine with a job's arguments for Snakemake. Where the job fails, an empty file stands in
# for each product that it owes: a missing one would hold the job, and its log would not come back.
python -m snakemake "$@" && exit
status=$?
sed -n 's/^TransferOutput = "\(.*\)"$/\1/p' "$_CONDOR_JOB_AD" | tr ',' '\n' | while read -r file; do
  mkdir -p "$(dirname "$file")" && touch "$file"
done
exit $status
