#!/usr/bin/env bash
# Usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]; NNODES, NODE_RANK, MASTER_ADDR, PORT for many nodes.
set -euo pipefail
usage() {
    sed -n '2,2s/^# //p' "$0" >&2
    echo "error: $1" >&2
    exit 2
}
[ $# -ge 2 ] || usage "$# of 2 arguments are given"
[[ $2 =~ ^[1-9][0-9]*$ ]] || usage "GPUS must be a number, got '$2'"
config=$1 gpus=$2
shift 2
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/train.py" "$config" --launcher pytorch "$@"
