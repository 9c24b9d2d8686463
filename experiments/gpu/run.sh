#!/usr/bin/env bash
# Train on one accelerator, within ten minutes: preset `best` and the original notebook's recipe at full width on one
# split by patient, `best` on all slices, and as many of five folds of `best` as there is time for.
#
#   experiments/gpu/run.sh DATA_128 DATA_256 ENCODER.safetensors OUT [SECONDS]
#
# DATA_* are converted datasets of 128 and 256 px (others will do for a trial), ENCODER what `unet_jax.weights` makes.
# OUT gets a workdir a run, results.json of each part, and NAME.model, the float16 weights of 8 MB in a model folder.
# Options of every run may be given in ALL, such as ALL='["--optim.epochs", "2", "--model.precision", "float32"]'.
set -euo pipefail
data_128=$1 data_256=$2 encoder=$3 out=$4 seconds=${5:-560}
all=${ALL:-'["--model.precision", "bfloat16"]'}
best="\"--preset\", \"best\", \"--model.encoder-weights\", \"$encoder\""
mkdir -p "$out/one" "$out/folds"
# Kept from run to run, it spares the minutes in which the compiler tries out algorithms.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/compiled}

cat > "$out/one.json" <<JSON
{
  "all": $all,
  "best": [$best],
  "original": ["--preset", "original", "--data", "$data_128"],
  "whole": [$best, "--split.kind", "whole"]
}
JSON
began=$SECONDS
python3 -m experiments.gpu.jobs --jobs "$out/one.json" --data "$data_256" --out "$out/one" --at-once 3 \
    --stop-after $((seconds - 60))

folds=$(for k in 1 2 3 4 5; do echo ", \"fold-$k\": [$best, \"--split.kind\", \"folds\", \"--split.fold\", \"$k\"]"; done)
echo "{\"all\": $all$folds}" > "$out/folds.json"
left=$((seconds - SECONDS + began))
python3 -m experiments.gpu.jobs --jobs "$out/folds.json" --data "$data_256" --out "$out/folds" --at-once 3 \
    --split test --start-before $((left - 120)) --stop-after $((left - 60))
