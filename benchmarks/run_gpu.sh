#!/usr/bin/env bash
# The whole set of benchmarks on a CUDA machine, in under 8 minutes.
#
#   benchmarks/run_gpu.sh [--out DIR] [--folder DIR] [--python PYTHON] [--dry-run]
#
# --out      where JSON, pictures and logs go; default benchmarks/results/gpu
# --folder   a checkpoint; default: one of the published size is made, with random weights
# --python   default: python3
# --dry-run  every part for real, on the CPU and the tiny checkpoint; the figures mean nothing
#
# Every part has a time limit of its own, and no part starts or goes on after BUDGET seconds in all. A part that
# fails does not stop the others. Exit status: 0 if all went well, 1 if a part failed, 2 if nothing could start.
set -u -o pipefail

BUDGET=465
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2
out="" folder="" python=python3 dry=no

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=yes; shift; continue ;;
    --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --out | --folder | --python) [ $# -gt 1 ] || { echo "run_gpu.sh: $1 needs a value" >&2; exit 2; } ;;
    *) echo "run_gpu.sh: unknown argument $1; see --help" >&2; exit 2 ;;
  esac
  case $1 in
    --out) out=$2 ;;
    --folder) folder=$2 ;;
    --python) python=$2 ;;
  esac
  shift 2
done

scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
if [ -z "$out" ]; then
  out=$root/benchmarks/results/gpu
  [ $dry = no ] || out=$scratch/results
fi
mkdir -p "$out/logs" || exit 2
out=$(cd "$out" && pwd) || exit 2
[ -z "$folder" ] || folder=$(cd "$folder" && pwd) || { echo "run_gpu.sh: no folder there" >&2; exit 2; }
cd "$root" || exit 2

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
export MUSICLDM_RESULTS="$out"
export TORCHINDUCTOR_CACHE_DIR="$scratch/inductor" # a graph compiled by one part serves the next

if ! seen=$("$python" -c 'import musicldm.pipeline, torch
print(torch.__version__, torch.cuda.is_available())' 2>"$scratch/error"); then
  echo "run_gpu.sh: $python cannot import the package: $(tail -n 1 "$scratch/error")" >&2
  echo "Install its dependencies (pip install .) or name another interpreter with --python." >&2
  exit 2
fi
if [ $dry = no ] && [ "${seen##* }" != True ]; then
  echo "run_gpu.sh: torch ${seen% *} sees no CUDA device here." >&2
  echo "These figures need one (and a torch built for CUDA); --dry-run tests the script without." >&2
  exit 2
fi
if [ $dry = yes ]; then
  export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1
  folder=$root/tests/goldens/tiny-hub
fi

summary="$out/summary.txt"
: >"$summary"
failed=0

# part NAME LIMIT COMMAND...: run it, at most LIMIT seconds; its output goes to logs/NAME.log and its end is shown.
part() {
  local name=$1 limit=$2 left status start
  shift 2
  left=$((BUDGET - SECONDS))
  start=$SECONDS
  echo "== $name"
  if [ "$left" -lt 5 ]; then
    echo "NOT RUN  $name: $BUDGET s are over" | tee -a "$summary"
    failed=1
    return
  fi
  [ "$limit" -le "$left" ] || limit=$left
  timeout --kill-after=5 "$limit" "$@" >"$out/logs/$name.log" 2>&1
  status=$?
  tail -n 6 "$out/logs/$name.log" | cut -c1-300
  if [ $status -eq 0 ]; then
    echo "ok       $name: $((SECONDS - start)) s" >>"$summary"
  else
    local why="exit status $status"
    [ $status -ne 124 ] && [ $status -ne 137 ] || why="stopped after $limit s; what it had measured is saved"
    echo "FAILED   $name: $((SECONDS - start)) s, $why; see logs/$name.log" >>"$summary"
    failed=1
  fi
}

skip() { echo "skipped  $1: $2" | tee -a "$summary"; }

facts() {
  git rev-parse HEAD 2>/dev/null
  "$python" -c 'import platform, torch, transformers
print("python", platform.python_version(), "torch", torch.__version__, "transformers", transformers.__version__)
print("CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version() if torch.cuda.is_available() else None)
if torch.cuda.is_available(): print(torch.cuda.get_device_properties(0))' || return 1
  [ $dry = no ] || return 0
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.sm,temperature.gpu --format=csv
}

if facts >"$out/facts.txt" 2>&1; then
  echo "ok       facts" >>"$summary"
else
  echo "FAILED   facts; see facts.txt" >>"$summary"
  failed=1
fi
cat "$out/facts.txt"

if [ -z "$folder" ]; then
  folder=$scratch/published
  part checkpoint 120 "$python" benchmarks/published.py "$folder"
  if [ ! -f "$folder/model_index.json" ]; then
    echo "run_gpu.sh: no checkpoint, so nothing can be measured; see $out/logs/checkpoint.log" >&2
    exit 1
  fi
fi

run() { # run NAME LIMIT SCRIPT OPTIONS...
  local name=$1 limit=$2 script=$3
  shift 3
  part "$name" "$limit" "$python" "benchmarks/$script" "$@" --folder "$folder"
}

# a warning of another version of torch is no failure here, as it is in the package's own tests
part tests 60 "$python" -m pytest tests/gpu -q -rs -W default -p no:cacheprovider

if [ $dry = yes ]; then
  run roofline 60 roofline.py --quick --rounds 1 --seconds 0.64 --dtype bfloat16
  run pipeline-eager 60 bench_pipeline.py --dtype bfloat16 --lengths 0.32,0.64 --batches 1,2 --steps 1,2,3 \
    --few-steps 1 --clip 0.32
  run modules-eager 60 bench_modules.py --rounds 1 --seconds 0.32 --variants float32,bfloat16,float16
  run modules-graphs 120 bench_modules.py --rounds 1 --seconds 0.32 --backend eager \
    --variants float32,graphs-bfloat16 --name bench_modules_graphs
  run pipeline-compiled 120 bench_pipeline.py --dtype bfloat16 --compiled --mode reduce-overhead --backend eager \
    --series steps --steps 2,3 --clip 0.32 --name bench_pipeline_compiled
  run precision 60 precision.py --seconds 0.32 --steps 3
else
  run roofline 60 roofline.py --dtype bfloat16 --rounds 10
  run pipeline-eager 75 bench_pipeline.py --dtype bfloat16 --steps 20,50,100,200 --few-steps 20 --clip 10.24 \
    --rounds 3
  run modules-eager 50 bench_modules.py --rounds 20 --variants float32,bfloat16,float16
  run modules-graphs 140 bench_modules.py --rounds 20 --variants float32,graphs-bfloat16 --name bench_modules_graphs
  run pipeline-compiled 140 bench_pipeline.py --dtype bfloat16 --compiled --mode reduce-overhead \
    --series steps --steps 20,50,100,200 --clip 10.24 --rounds 5 --name bench_pipeline_compiled
  run precision 45 precision.py --seconds 10.24
fi

if "$python" -c 'import diffusers; diffusers.MusicLDMPipeline' >/dev/null 2>&1; then
  if [ $dry = yes ]; then
    run vs_diffusers-modules 60 vs_diffusers.py modules --rounds 1
  else
    run vs_diffusers-modules 45 vs_diffusers.py modules --rounds 10
    run vs_diffusers-pipeline 120 vs_diffusers.py pipeline --rounds 3
  fi
else
  skip vs_diffusers "this interpreter has no diffusers with MusicLDM (0.33.1)"
fi

if [ $dry = no ]; then # last: what is left of the time goes to what matters least
  run modules-compiled 90 bench_modules.py --rounds 20 --variants float32,compiled-bfloat16 \
    --name bench_modules_compiled
fi

echo "== summary, $SECONDS s in all; results in $out"
cat "$summary"
exit $failed
