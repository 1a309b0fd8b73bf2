#!/bin/bash
# One task of a job array does one shard. Submit with `submit.sh`, which merges at the end.
#SBATCH --job-name=shards
#SBATCH --array=0-99
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --requeue
# A task that was killed or requeued goes on at its next chunk. Status 3 says that some inputs
# could not be used: they are rows of the table, and the task has done its work.
set -uo pipefail
input=$1 output=$2
shift 2
imitation-refinement --mode="${MODE:-refine}" --input="$input" --output="$output" \
  --shard="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" "$@" || [ $? -eq 3 ]
