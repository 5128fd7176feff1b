#!/usr/bin/env bash
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]; NNODES, NODE_RANK, MASTER_ADDR, PORT for
# many nodes.
set -euo pipefail
usage() {
    sed -n '2,3s/^# //p' "$0" >&2
    echo "error: $1" >&2
    exit 2
}
[ $# -ge 3 ] || usage "$# of 3 arguments are given"
[[ $3 =~ ^[1-9][0-9]*$ ]] || usage "GPUS must be a number, got '$3'"
config=$1 checkpoint=$2 gpus=$3
shift 3
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" --nproc_per_node="$gpus" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    "$(dirname "$0")/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
