#!/bin/bash
# Slurm: one training run over several hosts; JAX asks Slurm who takes part.
#
#     sbatch docs/launch/train.sh --config=configs/xrd.py:paper --workdir=runs/paper
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --time=24:00:00
# At the time limit the run saves and stops; the same command goes on from there.
#SBATCH --signal=TERM@120
set -euo pipefail
srun imitation-refinement --coordinator=auto "$@"
