#!/bin/sh
# From a table to a saved model and predictions for a second table. Writes into demo-output/.
set -eu
cd "$(dirname "$0")/.."
PATH="$PWD/.venv/bin:$PATH"
mkdir -p demo-output

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

run autoreg fit examples/data/flights.csv --target speed_mph --holdout 0.2 --effort quick \
    -o demo-output/flights.safetensors --force
run autoreg predict demo-output/flights.safetensors examples/data/new_flights.csv \
    --keep date --keep carrier --keep distance_miles -o demo-output/predictions.csv --force
run head -n 4 demo-output/predictions.csv
run autoreg evaluate demo-output/flights.safetensors examples/data/new_flights.csv
