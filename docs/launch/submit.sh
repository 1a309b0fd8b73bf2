#!/bin/bash
# Slurm: a job array over the shards, and a job that merges when all have ended.
#
#     docs/launch/submit.sh INPUT OUTPUT [--wavelength=CuKa ...]
set -euo pipefail
output=$2
job=$(sbatch --parsable "$(dirname "$0")/slurm.sh" "$@")
sbatch --dependency="afterany:${job%%;*}" --job-name=merge --mem=4G \
  --wrap="imitation-refinement --mode=refine --merge --output=$(printf %q "$output")"
