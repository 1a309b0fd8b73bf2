#!/bin/bash
# GNU parallel, one process a core, on this machine or on those of --sshloginfile:
#
#     docs/launch/parallel.sh SHARDS INPUT OUTPUT [--wavelength=CuKa ...]
#
# with MODE=benchmark, unmix or library in the environment for another mode.
set -uo pipefail
shards=$1 input=$2 output=$3 mode=${MODE:-refine}
shift 3
mkdir -p "$output"
seq 0 $((shards - 1)) | parallel --quote --joblog "$output/joblog" ${PARALLEL_OPTIONS:-} \
  imitation-refinement --mode="$mode" --input="$input" --output="$output" \
  --shard="{}/$shards" "$@"
imitation-refinement --mode="$mode" --merge --output="$output"
