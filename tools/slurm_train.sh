#!/usr/bin/env bash
# Usage: tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options of tools/train.py]; GPUS_PER_NODE (8),
# CPUS_PER_TASK (5), SRUN_ARGS and PORT by environment. A process that dies ends the job.
set -euo pipefail
usage() {
    sed -n '2,3s/^# //p' "$0" >&2
    echo "error: $1" >&2
    exit 2
}
[ $# -ge 4 ] || usage "$# of 4 arguments are given"
[[ $4 =~ ^[1-9][0-9]*$ ]] || usage "GPUS must be a number, got '$4'"
partition=$1 job_name=$2 config=$3 gpus=$4
shift 4
per_node="${GPUS_PER_NODE:-8}"
per_node=$((gpus < per_node ? gpus : per_node))
# shellcheck disable=SC2086
exec srun --partition="$partition" --job-name="$job_name" --gres=gpu:"$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$per_node" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$config" --launcher slurm "$@"
