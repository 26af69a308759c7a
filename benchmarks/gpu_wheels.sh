#!/usr/bin/env bash
# The wheels that a CUDA machine without network may lack, for `benchmarks/run_gpu.sh --wheels DIR`.
#
#   benchmarks/gpu_wheels.sh DIR [PYTHON]
#
# DIR/base  soundfile and soxr, with what they need
# DIR/twin  Diffusers 0.33.1 and the transformers 4.51.3 that its MusicLDM needs, with what these need and
#           transformers 5 does not bring
# PYTHON    whose pip downloads; default python3. The wheels are for Python 3.12 on Linux x86-64, whatever it is.
#
# What both machines are taken to have: torch, transformers 5, tokenizers, einops, safetensors, huggingface_hub,
# tqdm, pyyaml, numpy, pytest, matplotlib. Exit status: 0 if all is there and under 20 MB, 1 if not, 2 for a wrong call.
set -eu -o pipefail

LIMIT=20000000 # bytes: what can be carried along

case ${1:-} in
  --help | -h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "${BASH_SOURCE[0]}"; exit 0 ;;
  '' | -*) echo "gpu_wheels.sh: got ${1:-nothing}, expected a folder; see --help" >&2; exit 2 ;;
esac
folder=$1 python=${2:-python3}

fetch() { # fetch PART OPTIONS... REQUIREMENT...
  local part=$1
  shift
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --dest "$folder/$part" "$@"
}

binary=(--implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64
  --platform manylinux2014_x86_64)
mkdir -p "$folder"
rm -f "$folder"/base/*.whl "$folder"/twin/*.whl
fetch base "${binary[@]}" soundfile==0.13.1 cffi==2.0.0 pycparser==2.23 soxr==1.0.0
fetch twin "${binary[@]}" diffusers==0.33.1 transformers==4.51.3 tokenizers==0.21.1 huggingface_hub==0.30.2 \
  requests==2.32.5 urllib3==2.5.0 idna==3.11 certifi==2025.11.12 importlib_metadata==8.7.0 zipp==3.23.0
# the pure one: a fifth of the size
fetch twin --implementation py --abi none --platform any charset_normalizer==3.4.4

bytes=$(cat "$folder"/base/*.whl "$folder"/twin/*.whl | wc -c)
ls "$folder"/base "$folder"/twin
echo "$bytes bytes in all, of $LIMIT"
[ "$bytes" -lt "$LIMIT" ] || { echo "gpu_wheels.sh: that is too much to carry along" >&2; exit 1; }
