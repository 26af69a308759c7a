#!/usr/bin/env bash
# The whole set of benchmarks on a CUDA machine, in 8 minutes, by what each is worth.
#
#   benchmarks/run_gpu.sh [--out DIR] [--archive FILE] [--folder DIR] [--python PYTHON] [--wheels DIR]
#                         [--budget SECONDS] [--only PARTS] [--dry-run]
#
# --out      where JSON, pictures, logs and the table go; default benchmarks/results/gpu
# --archive  one .tar.gz of all that; written anew while a part runs and after each, so that a time limit loses
#            nothing
# --folder   a checkpoint; default: one of the published size is made, with random weights
# --python   default: python3
# --wheels   what benchmarks/gpu_wheels.sh downloaded, for a machine without network: DIR/base is put beside the
#            interpreter's packages, DIR/twin is used by the comparisons with Diffusers 0.33.1 alone
# --budget   seconds in all; default 480
# --only     parts by name, separated by commas, in place of all; what an earlier run left in --out is kept
# --dry-run  every part for real, on the CPU and the tiny checkpoint; the figures mean nothing
#
# Every part has a time limit of its own, and no part starts or goes on after the budget. A part that fails does
# not stop the others. SIGTERM stops all and still leaves the table and the archive. Exit status: 0 if all went
# well, 1 if a part failed, 2 if nothing could start, 143 after SIGTERM.
set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd) || exit 2
out="" archive="" folder="" wheels="" only="" python=python3 budget=480 dry=no

die() {
  printf 'run_gpu.sh: %s\n' "$@" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case $1 in
    --dry-run) dry=yes; shift; continue ;;
    --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; exit 0 ;;
    --out | --archive | --folder | --python | --wheels | --budget | --only) [ $# -gt 1 ] || die "$1 needs a value" ;;
    *) die "unknown argument $1; see --help" ;;
  esac
  case $1 in
    --out) out=$2 ;;
    --archive) archive=$2 ;;
    --folder) folder=$2 ;;
    --python) python=$2 ;;
    --wheels) wheels=$2 ;;
    --budget) budget=$2 ;;
    --only) only=$2 ;;
  esac
  shift 2
done
case $budget in '' | *[!0-9]*) die "--budget: got $budget, expected a whole number of seconds" ;; esac

case $python in */*) python=$(cd "$(dirname "$python")" 2>/dev/null && pwd)/$(basename "$python") ;; esac

scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
if [ -z "$out" ]; then
  out=$root/benchmarks/results/gpu
  [ $dry = no ] || out=$scratch/results
fi
mkdir -p "$out/logs" || exit 2
out=$(cd "$out" && pwd) || exit 2
if [ -n "$archive" ]; then
  place=$(dirname "$archive")
  mkdir -p "$place" || exit 2
  archive=$(cd "$place" && pwd)/$(basename "$archive") || exit 2
fi
if [ -n "$folder" ]; then
  [ -f "$folder/model_index.json" ] || die "--folder $folder: there is no checkpoint (model_index.json)"
  folder=$(cd "$folder" && pwd) || exit 2
fi
if [ -n "$wheels" ]; then
  for part in base twin; do
    ls "$wheels/$part"/*.whl >/dev/null 2>&1 || die "--wheels $wheels: no wheels in $wheels/$part" \
      "Make the folder where there is a network: benchmarks/gpu_wheels.sh $wheels"
  done
  wheels=$(cd "$wheels" && pwd) || exit 2
fi
cd "$root" || exit 2

export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 MUSICLDM_RESULTS="$out"
# a graph compiled by one part serves the next; nothing is left behind, and no home folder is needed
export TORCHINDUCTOR_CACHE_DIR="$scratch/inductor" TRITON_CACHE_DIR="$scratch/triton"
export XDG_CACHE_HOME="$scratch/cache" MPLCONFIGDIR="$scratch/matplotlib" CUDA_CACHE_PATH="$scratch/cuda"

summary="$out/summary.txt"
: >"$summary"
failed=0
say() { printf '%s\n' "$1" >>"$summary"; }

put_beside() { # put_beside PART TARGET: the wheels of a part, installed into a folder of their own
  local wheel
  "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-cache-dir \
    --no-compile --target "$2" "$wheels/$1"/*.whl >"$out/logs/wheels-$1.log" 2>&1 && return
  # no pip, or another Python than they were made for: what is plain Python works all the same
  for wheel in "$wheels/$1"/*.whl; do
    "$python" -m zipfile -e "$wheel" "$2" >>"$out/logs/wheels-$1.log" 2>&1
  done
  say "FAILED   wheels of $1: pip could not install them, so they were unpacked; see logs/wheels-$1.log"
  failed=1
}

packages=""
if [ -n "$wheels" ]; then
  put_beside base "$scratch/site"
  put_beside twin "$scratch/twin"
  packages=:$scratch/site
fi
export PYTHONPATH="$root$packages${PYTHONPATH:+:$PYTHONPATH}"
twin=("$python") # Diffusers 0.33.1 needs an older transformers than the rest may have
[ -z "$wheels" ] || twin=(env "PYTHONPATH=$scratch/twin:$PYTHONPATH" "$python")

if ! seen=$("$python" -c 'import musicldm.pipeline, torch
print(torch.__version__, torch.cuda.is_available())' 2>"$scratch/error"); then
  die "$python cannot import the package: $(tail -n 1 "$scratch/error")" \
    "Install its dependencies (pip install .) or name another interpreter with --python."
fi
if [ $dry = no ] && [ "${seen##* }" != True ]; then
  die "torch ${seen% *} sees no CUDA device here." \
    "These figures need one (and a torch built for CUDA); --dry-run tests the script without."
fi
if [ $dry = yes ]; then
  export CUDA_VISIBLE_DEVICES="" OMP_NUM_THREADS=1
  folder=$root/tests/goldens/tiny-hub
fi

[ -n "$only" ] || rm -f "$out"/{bench_graph,bench_modules,bench_memory,bench_pipeline,roofline,precision,vs_diffusers_modules}*.json
declare -A pids=() began=() limits=()

pack() { # the table, then the archive, which is whole at any time
  "$python" benchmarks/gpu_table.py "$out" >"$scratch/table" 2>/dev/null && cp "$scratch/table" "$out/table.md"
  [ -n "$archive" ] || return 0
  tar -czf "$archive.partial" -C "$out" --exclude='*.partial' . && mv "$archive.partial" "$archive"
}

# shellcheck disable=SC2317 # the traps call it
stop() { # stop STATUS: everything that runs, and keep what there is
  trap '' TERM INT HUP
  local name
  for name in "${!pids[@]}"; do
    kill -TERM "${pids[$name]}" 2>/dev/null
    say "STOPPED  $name: $((SECONDS - began[$name])) s; what it had measured is saved"
  done
  say "STOPPED  the script after $SECONDS s"
  pack
  exit "$1"
}
trap 'stop 143' TERM
trap 'stop 130' INT
trap 'stop 129' HUP

begin() { # begin NAME LIMIT COMMAND...: start it, for at most LIMIT seconds; its output goes to logs/NAME.log
  local name=$1 limit=$2 left=$((budget - SECONDS))
  shift 2
  case ",$only," in ,, | *",$name,"*) ;; *) [ "$name" = checkpoint ] || return 0 ;; esac
  echo "== $name"
  if [ "$left" -lt 5 ]; then
    echo "NOT RUN  $name: $budget s are over" | tee -a "$summary"
    failed=1
    return
  fi
  [ "$limit" -le "$left" ] || limit=$left
  timeout --kill-after=5 "$limit" "$@" >"$out/logs/$name.log" 2>&1 &
  pids[$name]=$! began[$name]=$SECONDS limits[$name]=$limit
}

finish() { # finish NAME: wait for it, show its end, note how it went
  local name=$1 status packed=$SECONDS spent why
  [ -n "${pids[$name]:-}" ] || return 0
  while kill -0 "${pids[$name]}" 2>/dev/null; do
    sleep 0.2 # not `wait`: a signal is heard at once
    if [ $((SECONDS - packed)) -ge 20 ]; then
      pack
      packed=$SECONDS
    fi
  done
  wait "${pids[$name]}"
  status=$?
  unset "pids[$name]"
  spent=$((SECONDS - began[$name]))
  tail -n 6 "$out/logs/$name.log" | cut -c1-300
  if [ $status -eq 0 ]; then
    say "ok       $name: $spent s"
  else
    why="exit status $status"
    [ $status -ne 124 ] && [ $status -ne 137 ] || why="stopped after ${limits[$name]} s; what it had measured is saved"
    say "FAILED   $name: $spent s, $why; see logs/$name.log"
    failed=1
  fi
  pack
}

part() { # part NAME LIMIT COMMAND...
  begin "$@"
  finish "$1"
}

run() { # run NAME LIMIT SCRIPT OPTIONS...
  local name=$1 limit=$2 script=$3
  shift 3
  part "$name" "$limit" "$python" "benchmarks/$script" "$@" --folder "$folder"
}

facts() {
  git rev-parse HEAD 2>/dev/null
  "$python" -c 'import platform, torch, transformers
print("python", platform.python_version(), "torch", torch.__version__, "transformers", transformers.__version__)
print("CUDA", torch.version.cuda, "cuDNN", torch.backends.cudnn.version() if torch.cuda.is_available() else None)
if torch.cuda.is_available(): print(torch.cuda.get_device_properties(0))' || return 1
  cc --version 2>&1 | head -n 1 # torch.compile on a GPU needs a C compiler
  [ $dry = no ] || return 0
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm,clocks.sm,temperature.gpu --format=csv
}

if facts >"$out/facts.txt" 2>&1; then
  say "ok       facts"
else
  say "FAILED   facts; see facts.txt"
  failed=1
fi
cat "$out/facts.txt"

# a warning of another version of torch is no failure here, as it is in the package's own tests
pytest=("$python" -m pytest -v -rs -W default -p no:cacheprovider)
compiled_tests=tests/gpu/test_compiled_gpu.py # minutes of compilation: near the end

if [ -z "$folder" ]; then # on the CPU, while the tests have the GPU
  folder=$scratch/published
  begin checkpoint 150 "$python" benchmarks/published.py "$folder"
fi
part tests 100 "${pytest[@]}" tests/gpu "--ignore=$compiled_tests"
finish checkpoint
if [ ! -f "$folder/model_index.json" ]; then
  pack
  echo "run_gpu.sh: no checkpoint, so nothing can be measured; see $out/logs/checkpoint.log" >&2
  exit 1
fi

compared=no
"${twin[@]}" -c 'import diffusers; diffusers.MusicLDMPipeline' >"$out/logs/diffusers.log" 2>&1 && compared=yes
[ $compared = yes ] || say "skipped  all beside Diffusers: no Diffusers with MusicLDM (0.33.1) here; see --wheels"

against_diffusers() { # against_diffusers NAME LIMIT SCRIPT OPTIONS...
  local name=$1 limit=$2 script=$3
  shift 3
  [ $compared = no ] || part "$name" "$limit" "${twin[@]}" "benchmarks/$script" "$@" --folder "$folder"
}

if [ $dry = yes ]; then
  short=(--seconds 0.32 --rounds 1)
  run graph 60 bench_graph.py "${short[@]}" --ways eager,graph,graph-channels-last --dtypes bfloat16,float16 --steps 2,3
  run modules 60 bench_modules.py "${short[@]}" --variants float32,bfloat16,float16
  against_diffusers diffusers-modules 90 vs_diffusers.py modules --rounds 1 --dtype bfloat16
  against_diffusers diffusers-pipeline 90 bench_graph.py "${short[@]}" --ways diffusers,eager,graph --steps 2 \
    --name bench_graph_diffusers
  run roofline 60 roofline.py --quick "${short[@]}" --dtype bfloat16
  run precision 60 precision.py --seconds 0.32 --steps 3
  run memory 60 bench_memory.py --seconds 0.32 --batches 1,2
  run graph-compiled 90 bench_graph.py "${short[@]}" --ways eager,graph-compiled --steps 2 --backend eager \
    --name bench_graph_compiled
  part tests-compiled 60 "${pytest[@]}" "$compiled_tests"
  run modules-graphs 120 bench_modules.py "${short[@]}" --backend eager --variants float32,graphs-bfloat16 \
    --name bench_modules_graphs
  run step-graph 60 bench_graph.py "${short[@]}" --ways eager,step-graph --steps 2 --cudnn-benchmark \
    --name bench_graph_steps
  run pipeline 60 bench_pipeline.py --dtype bfloat16 --lengths 0.32,0.64 --batches 1,2 --steps 1,2,3 \
    --few-steps 1 --clip 0.32
  against_diffusers diffusers-modules-float32 90 vs_diffusers.py modules --rounds 1
else
  run graph 140 bench_graph.py --ways eager,graph,graph-channels-last --dtypes bfloat16,float16 --steps 20,200,50,4 \
    --rounds 2
  run modules 50 bench_modules.py --rounds 20 --variants float32,bfloat16,float16
  against_diffusers diffusers-modules 50 vs_diffusers.py modules --rounds 10 --dtype bfloat16
  against_diffusers diffusers-pipeline 110 bench_graph.py --ways diffusers,eager,graph --steps 20,200 --rounds 2 \
    --name bench_graph_diffusers
  run roofline 50 roofline.py --dtype bfloat16 --rounds 10
  run precision 45 precision.py --seconds 10.24
  run memory 60 bench_memory.py
  run graph-compiled 160 bench_graph.py --ways eager,graph-compiled --steps 20,200,50,4 --rounds 2 \
    --name bench_graph_compiled
  # what is left of the time goes to what matters least
  part tests-compiled 120 "${pytest[@]}" "$compiled_tests"
  run modules-graphs 140 bench_modules.py --rounds 20 --variants float32,graphs-bfloat16 --name bench_modules_graphs
  run step-graph 90 bench_graph.py --ways eager,graph,step-graph --steps 20,200 --rounds 2 --cudnn-benchmark \
    --name bench_graph_steps
  run pipeline 75 bench_pipeline.py --dtype bfloat16 --steps 20,50,100,200 --few-steps 20 --clip 10.24
  against_diffusers diffusers-modules-float32 45 vs_diffusers.py modules --rounds 10
fi

pack
echo "== summary, $SECONDS s in all; results in $out${archive:+ and $archive}"
cat "$summary"
[ ! -f "$out/table.md" ] || { echo; cat "$out/table.md"; }
exit $failed
