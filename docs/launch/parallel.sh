#!/bin/bash
# GNU parallel, one process a core, on this machine or on those of --sshloginfile:
#
#     docs/launch/parallel.sh SHARDS INPUT OUTPUT [--wavelength=CuKa ...]
set -uo pipefail
shards=$1 input=$2 output=$3
shift 3
mkdir -p "$output"
seq 0 $((shards - 1)) | parallel --quote --joblog "$output/joblog" ${PARALLEL_OPTIONS:-} \
  imitation-refinement --mode=refine --input="$input" --output="$output" \
  --shard="{}/$shards" "$@"
imitation-refinement --mode=refine --merge --output="$output"
