#!/bin/bash
# Slurm: a job array over the shards, and a job that merges when all have ended.
#
#     docs/launch/submit.sh INPUT OUTPUT [--wavelength=CuKa ...]
#
# with MODE=benchmark, unmix or library in the environment for another mode.
set -euo pipefail
output=$2 mode=${MODE:-refine}
job=$(sbatch --parsable "$(dirname "$0")/slurm.sh" "$@")
sbatch --dependency="afterany:${job%%;*}" --job-name=merge --mem=4G \
  --wrap="imitation-refinement --mode=$mode --merge --output=$(printf %q "$output")"
