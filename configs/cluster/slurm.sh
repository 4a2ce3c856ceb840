#!/bin/bash
# A Ray cluster for one sweep in a SLURM job: sbatch configs/cluster/slurm.sh --task mri --data /shared/fastmri/knee
# Checked by bash -n; NOT yet tried on a real cluster.
#SBATCH --job-name=recon-tune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
set -euo pipefail
source /shared/recon/.venv/bin/activate

nodes=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
head=${nodes[0]}
ip=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | cut -d' ' -f1)

srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" \
  ray start --head --node-ip-address="$ip" --port=6379 --num-cpus="$SLURM_CPUS_PER_TASK" --block &
sleep 20
workers=$((SLURM_JOB_NUM_NODES - 1))
if ((workers > 0)); then
  srun --nodes=$workers --ntasks=$workers --overlap --exclude="$head" \
    ray start --address="$ip:6379" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
  sleep 20
fi
recon-tune --address "$ip:6379" --storage /shared/sweeps --cpus-per-trial 4 --gpus-per-trial 1 "$@"
