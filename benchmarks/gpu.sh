#!/usr/bin/env bash
# What wants a GPU, in parts that may be killed: the same command goes on where it was.
#
#     bash benchmarks/gpu.sh PART OUTPUT_DIR [DATA_DIR]
#
# PART: semisam    published protocol on the left atrium (DATA_DIR as `prepare la2018` writes it), Dice of the last weights
#       synthetic  promptable networks pre-trained on made-up images, by benchmarks/synthetic_pretraining.py
#       steps      time of V-Net iterations by precision and layout; semisam takes the fastest layout if this ran before
#       samus      time and memory of SAMUS training steps, windows, random walk
#       tests      tests that need a GPU
#       all        all of them
#
# Environment: DEVICE (cuda:0), QUICK=1 (tiny, to try this script on a CPU), METHODS ("uncertainty_aware copy_paste supervised"),
# LABELLED (4), SEED (0), WORKERS (6), NO_SCORES=1 (leave the distances, minutes of CPU work, to another machine that has
# the predictions), MINUTES (4, of each synthetic pre-training), DIMS ("2 3"), PYTHON (python).
set -euo pipefail

part=${1:?PART: semisam, synthetic, steps, samus, tests or all}
out=$(mkdir -p "${2:?OUTPUT_DIR}" && cd "$2" && pwd)
data=${3:+$(cd "$3" && pwd)}
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
device=${DEVICE:-cuda:0}
quick=${QUICK:-}
kind=${device%%:*}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
bundle=bundles/semisam_la2018

log() { echo "[$(date +%T)] $*" | tee -a "$out/gpu.log"; }

# run NAME COMMAND...: keep its output in a file too
run() {
    local name=$1 start=$SECONDS status=0
    shift
    log "$name: $*"
    "$@" 2>&1 | tee -a "$out/$name.log" || status=$?
    log "$name: status $status after $((SECONDS - start)) s"
    return $status
}

# config NAME "FILE..." OPTION...: run a config of the bundle, with overlays
config() {
    local name=$1 files
    files=$(printf "'$bundle/configs/%s'," $2)
    shift 2
    run "$name" "$python" -m monai.bundle run --config_file "[$files]" \
        --meta_file $bundle/configs/metadata.json --bundle_root $bundle --dataset_dir "$data" "$@"
}

# Batches of 2 labelled and 2 unlabelled patches as in UA-MT, 6 000 iterations. Long epochs, because workers start and a
# checkpoint is written once an epoch. Stride 18, 18, 4 as published.
semisam() {
    [ -n "$data" ] || { echo "semisam: DATA_DIR is missing; make it by python -m weakmedsam_ext prepare la2018" >&2; return 2; }
    local root=$out/semisam layout=contiguous_format deterministic=False workers=${WORKERS:-6} method
    local size=(--channels 16 --spacing 0.625 --roi_size "[112,112,80]" --batches_per_epoch 200) epochs=30 stride="[18,18,4]"
    local length=(--epochs "$epochs")
    if [ -n "$quick" ]; then
        size=(--channels 4 --spacing 2.5 --roi_size "[32,32,16]" --batches_per_epoch 2)
        length=(--epochs 2) stride="[16,16,8]" workers=0
    fi
    # batches pass through shared memory, which containers may keep small
    [ "$(df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 {print $4}')" -ge 2000 ] 2>/dev/null || workers=0
    if [ -f "$out/vnet.csv" ]; then
        read -r layout deterministic < <("$python" benchmarks/gpu_steps.py fastest "$out/vnet.csv")
        [ "$layout" = channels_last_3d ] || layout=contiguous_format
    fi
    mkdir -p "$root"
    # the cases of benchmarks/semisam_la2018.py: 19 for training, 8 held out
    [ -f "$root/split.json" ] || "$python" - "$data" "$root/split.json" <<'PY'
import json, sys
from weakmedsam_ext.data import split_dataset
split = split_dataset(sys.argv[1], num_folds=20, num_test=8)
json.dump({part: [item["case"] for item in items] for part, items in split.items()}, open(sys.argv[2], "w"))
PY
    local on_device="\$@network_def.to(@device, memory_format=torch.$layout)"
    for method in ${METHODS:-uncertainty_aware copy_paste supervised}; do
        local folder=$root/${method}_${LABELLED:-4}_seed${SEED:-0}
        local common=(--output_dir "$folder" --ckpt_dir "$folder/models" --split_file "$root/split.json" --device "$device")
        local published=(--specialist thin_vnet) training=published_training.json sgd=(--learning_rate 0.01 --weight_decay 0.0001 --average_decay 0)
        [ "$method" != copy_paste ] || published=() training="" sgd=()
        if [ ! -f "$folder/models/model.pt" ]; then
            config "train_$method" "train.json $training $method.json" "${common[@]}" "${size[@]}" "${length[@]}" "${published[@]}" "${sgd[@]}" \
                --labelled "${LABELLED:-4}" --seed "${SEED:-0}" --labelled_per_batch 2 --unlabelled_per_batch 2 \
                --stride "$stride" --val_interval 1000 --num_workers "$workers" --deterministic "$deterministic" \
                --network "$on_device" --teacher#network "$on_device" || return 1
        fi
        if [ ! -f "$folder/predicted" ]; then
            local held_out
            held_out=$("$python" -c "import json, sys
print([f'{sys.argv[2]}/imagesTr/{case}.nii.gz' for case in json.load(open(sys.argv[1]))['test']])" "$root/split.json" "$data")
            config "predict_$method" inference.json --output_dir "$folder" --ckpt_dir "$folder/models" --device "$device" \
                "${size[@]:0:6}" "${published[@]}" --stride "$stride" --window_batch_size 8 \
                --datalist "$held_out" || return 1
            touch "$folder/predicted"
        fi
        [ -z "${NO_SCORES:-}" ] || continue
        if [ ! -f "$folder/metrics.json" ]; then
            config "evaluate_$method" "train.json evaluate.json" --output_dir "$folder" --split_file "$root/split.json" || return 1
        fi
        log "$method: $("$python" -c "import json, sys
print(json.dumps(json.load(open(sys.argv[1]))['summary']['volume']))" "$folder/metrics.json")"
    done
}

synthetic() {
    if [ ! -f benchmarks/synthetic_pretraining.py ]; then
        log "synthetic: benchmarks/synthetic_pretraining.py is not here; skipped"
        return
    fi
    local dims failed=0
    for dims in ${DIMS:-2 3}; do
        run "synthetic_$dims" "$python" benchmarks/synthetic_pretraining.py --dims "$dims" \
            --minutes "${MINUTES:-$([ -n "$quick" ] && echo 0.2 || echo 4)}" --device "$device" \
            --output "$out/synthetic_$dims" || failed=1
    done
    return $failed
}

steps() {
    run steps "$python" benchmarks/gpu_steps.py vnet --csv "$out/vnet.csv" --device "$kind" ${quick:+--quick --iterations 2}
}

samus() {
    local failed=0
    run samus "$python" benchmarks/gpu_steps.py samus --csv "$out/samus.csv" --device "$kind" \
        ${quick:+--quick --repeats 1} || failed=1
    [ -f "$out/window_attention.csv" ] || [ -n "$quick" ] || run window_attention "$python" \
        benchmarks/window_attention.py --csv "$out/window_attention.csv" --device "$kind" || failed=1
    [ -f "$out/random_walk.csv" ] || run random_walk "$python" benchmarks/random_walk.py --csv "$out/random_walk.csv" \
        --device "$kind" ${quick:+--quick --repeats 1} || failed=1
    return $failed
}

tests() {
    run tests "$python" -m pytest -q -m gpu -p no:cacheprovider --ignore tests/data/test_image_io.py \
        --ignore tests/data/test_volume_io.py --ignore tests/data/test_la2018.py || {
        # no test is selected where there is no GPU
        [ -n "$quick" ]
    }
}

case $part in
semisam | synthetic | steps | samus | tests) "$part" ;;
all)
    status=0
    for each in tests steps samus semisam synthetic; do
        bash benchmarks/gpu.sh "$each" "$out" "$data" || { status=1; log "$each failed"; }
    done
    exit $status
    ;;
*)
    echo "PART: expected semisam, synthetic, steps, samus, tests or all, but got $part" >&2
    exit 2
    ;;
esac
