#!/usr/bin/env bash
# Videos of the built-in demo model: out/demo.mp4 with its report, three more
# prompts, and a contact sheet of frames beside each video.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p out

make_video() { # NAME IMAGE PROMPT [FLAGS...]
  local name=$1 image=$2 prompt=$3
  shift 3
  bin/wanrun --image "$image" --prompt "$prompt" --seed 42 --overwrite \
    --output "out/$name.mp4" --contact-sheet "out/$name.png" "$@"
}

inputs=examples/demo-model/inputs
make_video demo   examples/in.jpg          "the red ball moves right" --report out/demo.json
make_video up     examples/in.jpg          "the red ball moves up"      --log-format plain -q
make_video left   "$inputs/blue_square.jpg" "蓝色的方块向左移动"           --log-format plain -q
make_video purple "$inputs/orange_star.png" "the orange star turns purple" --log-format plain -q
echo
ls -l out/*.mp4 out/*.png
echo "look at out/demo.png (13 frames from left to right), or play out/demo.mp4"
