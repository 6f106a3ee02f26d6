#!/usr/bin/env bash
# Everything that only a machine with a GPU can tell, in one call of at most nine minutes:
#
#   bench/gpu_check.sh [RESULTS [STAGE...]]
#
# RESULTS is a folder (default: bench/results): the benchmarks' tables go there, the log of every stage and summary.txt
# to RESULTS/gpu_check. Stages are run in the order below, what tells most first, or only those named; what a call does
# not run keeps the line of an earlier one in summary.txt. A stage that fails or runs out of time leaves the others
# alone; the exit code is 1 if there was one. Nothing waits for the end: a line follows each stage, and of the
# convolutions and the models each that is measured is written at once, so that a call that is cut off tells as much as
# it has found. All stages take longer than one call; what is left is for a second one.
#
# Environment: PYTHON (python3), BACKEND (cuda), PEER (torch cudnn; those that cannot be used are told of and left out),
# SECONDS_IN_ALL (540), TESTS (the folders that pytest is given), LENET_OPTIONS (of the short training runs),
# NUMBACNN_DATA (the data set of the full ones), MODELS and MODEL_SEEDS (what the stage models trains: MODELS=vgg
# MODEL_SEEDS=0 bench/gpu_check.sh RESULTS models). Options of the benchmarks are in CONV_OPTIONS, TRAIN_OPTIONS,
# STEPS_OPTIONS, COMPILED_OPTIONS and KERNELS_OPTIONS.
#
# The stage models trains longer than one call may take. It keeps its runs in RESULTS/models, and the next call goes on
# where it was stopped.
set -u
set -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

ALL_STAGES=(info small conv steps train kernels nccl seeds lenet tests memcheck racecheck compiled models)

PYTHON=${PYTHON:-python3}
BACKEND=${BACKEND:-cuda}
PEER=${PEER-torch cudnn}
SECONDS_IN_ALL=${SECONDS_IN_ALL:-540}
TESTS=${TESTS:-tests}
LENET_OPTIONS=${LENET_OPTIONS:---epochs 2}
MODELS=${MODELS:-lenet lenet-bn resnet densenet googlenet nin alexnet vgg}
MODEL_SEEDS=${MODEL_SEEDS:-0 1 2}
# An algorithm for every layer, in each precision that ours and the peers have. What compiles takes half a minute for a
# model, so that it is left to a stage of its own.
CONV_OPTIONS=${CONV_OPTIONS:---problem deep lenet kinds depthwise --algorithm implicit_gemm --budget 0.2}
STEPS_OPTIONS=${STEPS_OPTIONS:---models resnet lenet vgg googlenet densenet alexnet nin --run eager graph --budget 0.5}
TRAIN_OPTIONS=${TRAIN_OPTIONS:---run eager graph --epochs 3}
COMPILED_OPTIONS=${COMPILED_OPTIONS:---models lenet resnet --run compile --layout nchw --budget 0.5}
KERNELS_OPTIONS=${KERNELS_OPTIONS:---budget 10}
LOG_BYTES=1000000

results=${1:-bench/results}
[ $# -gt 0 ] && shift
stages=("$@")
[ ${#stages[@]} -eq 0 ] && stages=("${ALL_STAGES[@]}")
for stage in "${stages[@]}"; do
    case " ${ALL_STAGES[*]} " in
        *" $stage "*) ;;
        *)
            echo "error: stage '$stage' must be one of ${ALL_STAGES[*]}" >&2
            exit 2
            ;;
    esac
done

mkdir -p "$results/gpu_check" || exit 2
results=$(cd "$results" && pwd) || exit 2
logs=$results/gpu_check
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1

# What a stage returns when this machine lacks what it needs.
readonly SKIPPED=77
# What it returns when another call can go on with its work.
readonly UNFINISHED=78

# Stages are functions that call `limited` for everything that takes time, so that one deadline holds for all of it.
limited() {
    local left=$((deadline - SECONDS))
    [ "$left" -le 0 ] && return 124
    # Interrupted, pytest still tells what it found; what does not end by that is killed.
    timeout --signal=INT --kill-after=10 "$left" "$@"
}

# Those of PEER, or of the ones that are given, which are there and compute on the device.
peer_option() {
    local name told device=cpu
    local -a found=()
    [ "$BACKEND" = cuda ] && device=cuda
    for name in ${*:-$PEER}; do
        if told=$(limited "$PYTHON" -c "from bench import peers; peers.load(['$name'], 1, '$device')" 2>&1); then
            found+=("$name")
        else
            echo "without the peer '$name': ${told##*$'\n'}"
        fi
    done
    peer=()
    [ ${#found[@]} -eq 0 ] || peer=(--peer "${found[@]}")
}

# The peer that runs whole models, if it is wanted.
model_peer_option() {
    case " $PEER " in
        *" torch "*) peer_option torch ;;
        *) peer=() ;;
    esac
}

sha_of() {
    sha256sum "$1" | cut -d ' ' -f 1
}

stage_info() {
    limited "$PYTHON" -m numbacnn.info
}

stage_small() {
    limited "$PYTHON" -m bench.gpu_small "$BACKEND"
}

stage_lenet() {
    local -a options
    read -r -a options <<<"$LENET_OPTIONS"
    local run
    for run in first second; do
        limited "$PYTHON" -m examples.train_lenet --backend "$BACKEND" --dataset shapes --seed 0 \
            "${options[@]}" --output-dir "$work/$run" || return $?
    done
    local first second
    first=$(sha_of "$work/first/model.safetensors")
    second=$(sha_of "$work/second/model.safetensors")
    echo "sha256 of model.safetensors: $first, $second"
    [ "$first" = "$second" ] || {
        echo "the same seed gave other bits"
        return 1
    }
}

# Its last line says how many processes there were: two where there are two GPUs.
stage_nccl() {
    [ "$BACKEND" = cuda ] || {
        echo "NCCL is between GPUs, of the backend cuda, not $BACKEND"
        return $SKIPPED
    }
    limited "$PYTHON" -m bench.gpu_nccl
}

needs_data() {
    [ -n "${NUMBACNN_DATA:-}" ] || {
        echo "NUMBACNN_DATA is not set"
        return $SKIPPED
    }
}

stage_seeds() {
    needs_data || return $?
    local seed
    for seed in 0 1 2 3 4; do
        echo "seed $seed"
        limited "$PYTHON" -m examples.train_lenet --backend "$BACKEND" --dataset fashion-mnist --seed "$seed" \
            --output-dir "$work/seed$seed" || return $?
        cp "$work/seed$seed/history.jsonl" "$logs/history-seed$seed.jsonl" || return 1
    done
}

# A checkpoint is there from the first epoch on, until the run is done.
stage_models() {
    needs_data || return $?
    local model seed run status failure=0 done=0 open=0
    for model in $MODELS; do
        for seed in $MODEL_SEEDS; do
            run=$results/models/$model/seed$seed
            if [ ! -s "$run/history.jsonl" ] || [ -e "$run/checkpoint.safetensors" ]; then
                echo "$model, seed $seed"
                limited "$PYTHON" -m examples.train --model "$model" --backend "$BACKEND" --dataset fashion-mnist \
                    --seed "$seed" --output-dir "$run" --resume
                status=$?
                case $status in
                    0) rm -f "$run"/*.safetensors ;;
                    124 | 137) open=$((open + 1)) && continue ;;
                    *) failure=$status && continue ;;
                esac
            fi
            done=$((done + 1))
        done
    done
    [ "$done" -eq 0 ] || "$PYTHON" -m bench.book "$results/models" || failure=$?
    [ "$failure" -eq 0 ] || return "$failure"
    [ "$open" -eq 0 ] || {
        echo "$done of $((done + open)) trainings are done"
        return $UNFINISHED
    }
}

stage_conv() {
    local -a options
    read -r -a options <<<"$CONV_OPTIONS"
    peer_option
    limited "$PYTHON" -m bench.conv --backend "$BACKEND" "${peer[@]}" "${options[@]}" --output-dir "$results"
}

stage_train() {
    local -a options
    read -r -a options <<<"$TRAIN_OPTIONS"
    model_peer_option
    limited "$PYTHON" -m bench.train --backend "$BACKEND" "${peer[@]}" "${options[@]}" --output-dir "$results"
}

stage_steps() {
    local -a options
    read -r -a options <<<"$STEPS_OPTIONS"
    model_peer_option
    limited "$PYTHON" -m bench.models --backend "$BACKEND" --task train "${peer[@]}" "${options[@]}" \
        --output-dir "$results"
}

# Into a folder of its own: the table of the other ways stays.
stage_compiled() {
    local -a options
    read -r -a options <<<"$COMPILED_OPTIONS"
    model_peer_option
    [ ${#peer[@]} -gt 0 ] || {
        echo "there is nothing to compile without the peer torch"
        return $SKIPPED
    }
    limited "$PYTHON" -m bench.models --backend "$BACKEND" --task train "${peer[@]}" "${options[@]}" \
        --output-dir "$results/compiled"
}

stage_kernels() {
    local -a options
    read -r -a options <<<"$KERNELS_OPTIONS"
    limited "$PYTHON" -m bench.kernels --backend "$BACKEND" "${options[@]}" --output-dir "$results"
}

sanitizer() {
    local program
    program=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer) || {
        echo "compute-sanitizer is not installed"
        return $SKIPPED
    }
    [ "$BACKEND" = cuda ] || {
        echo "compute-sanitizer checks the backend cuda, not $BACKEND"
        return $SKIPPED
    }
    limited "$program" --tool "$1" --error-exitcode 9 "$PYTHON" -m bench.gpu_small cuda
}

stage_memcheck() {
    sanitizer memcheck
}

stage_racecheck() {
    sanitizer racecheck
}

# Side by side where pytest-xdist is there, each with a few threads; timings by pytest-benchmark would be of no use.
stage_tests() {
    local -a folders many=() coverage=(--no-cov)
    read -r -a folders <<<"$TESTS"
    "$PYTHON" -c "import xdist" 2>/dev/null && many=(-n auto -p no:benchmark)
    # The project's own options are of pytest-cov too.
    "$PYTHON" -c "import pytest_cov" 2>/dev/null ||
        coverage=(-o "addopts=--import-mode=importlib --doctest-modules --doctest-glob=*.md -ra --strict-markers")
    NUMBA_NUM_THREADS=${NUMBA_NUM_THREADS:-4} limited "$PYTHON" -m pytest --backend "$BACKEND" -p no:cacheprovider \
        "${coverage[@]}" -q --durations=15 "${many[@]}" "${folders[@]}"
}

# The longest that a stage may take, in seconds.
declare -A longest=(
    [info]=30 [small]=70 [conv]=150 [steps]=150 [train]=50 [kernels]=60 [nccl]=60 [seeds]=120 [lenet]=60 [tests]=240
    [memcheck]=60 [racecheck]=60 [compiled]=120 [models]=540
)

# Both ends of a log that is too long to keep.
shorten() {
    local half=$((LOG_BYTES / 2))
    if [ "$(wc -c <"$1")" -gt "$LOG_BYTES" ]; then
        { head -c $half "$1" && printf '\n[...]\n' && tail -c $half "$1"; } >"$work/log" && mv "$work/log" "$1"
    fi
}

summary=$logs/summary.txt
{
    printf '%-10s %8s  %s\n' stage seconds result
    [ ! -e "$summary" ] || tail -n +2 "$summary" | while read -r stage took verdict; do
        [[ " ${stages[*]} " == *" $stage "* ]] || printf '%-10s %8s  %s\n' "$stage" "$took" "$verdict"
    done
} >"$work/summary"
mv "$work/summary" "$summary"
failed=0
for stage in "${stages[@]}"; do
    left=$((SECONDS_IN_ALL - SECONDS))
    if [ "$left" -le 0 ]; then
        printf '%-10s %8s  %s\n' "$stage" 0 "skipped: no time left" >>"$summary"
        continue
    fi
    allowed=${longest[$stage]}
    [ "$allowed" -gt "$left" ] && allowed=$left
    begin=$SECONDS
    deadline=$((begin + allowed))
    echo "== $stage (at most $allowed s)"
    log=$logs/$stage.log
    "stage_$stage" >"$log" 2>&1
    status=$?
    shorten "$log"
    tail -n 5 "$log"
    case $status in
        0) verdict=ok ;;
        "$SKIPPED") verdict="skipped: $(tail -n 1 "$log")" ;;
        "$UNFINISHED") verdict="unfinished: $(tail -n 1 "$log")" ;;
        124 | 137) verdict="failed: out of time" failed=1 ;;
        *) verdict="failed: exit code $status" failed=1 ;;
    esac
    printf '%-10s %8s  %s\n' "$stage" $((SECONDS - begin)) "$verdict" >>"$summary"
done
echo
cat "$summary"
exit $failed
