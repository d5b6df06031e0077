#!/bin/sh
# generate.sh CLANG [PTXAS] makes ptx/*.ptx of *.cu and, with PTXAS, sees that each
# assembles without spills for every architecture that docs/gpu.md names.
set -eu
clang=$1 ptxas=${2:-}
cd "$(dirname "$0")"
mkdir -p ptx
for source in *.cu; do
  name=${source%.cu}
  hash=$(cat port.h types.h "$source" | sha256sum | cut -d' ' -f1)
  made=ptx/.$name.ptx
  {
    echo "// Generated from $source by generate.sh; sha256 of port.h, types.h and it: $hash"
    "$clang" -x cuda -std=c++17 --cuda-device-only --cuda-gpu-arch=sm_80 -nocudainc -nocudalib -O3 \
      -Wall -Wno-unused-function -Werror -S "$source" -o -
  } >"$made"
  mv "$made" "ptx/$name.ptx"
  [ -n "$ptxas" ] || continue
  for arch in sm_80 sm_86 sm_89 sm_90; do
    "$ptxas" -v -arch=$arch "ptx/$name.ptx" -o /dev/null 2>ptx/.log || { cat ptx/.log; rm ptx/.log; exit 1; }
    if grep -E 'spill' ptx/.log | grep -vE '^ *0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads'; then
      echo "$source spills or uses a stack on $arch" >&2
      exit 1
    fi
  done
  rm -f ptx/.log
done
