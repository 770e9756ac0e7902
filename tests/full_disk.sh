#!/usr/bin/env bash
# A disk that is really full, and one that turns read-only under a training: the run must end with an error that names the file,
# keep its last good state, and go on from it to the bytes of a run that met neither. Needs root, for two small tmpfs mounts.
# Usage: tests/full_disk.sh [path of wgradcam; default target/debug/wgradcam]
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(realpath "${1:-target/debug/wgradcam}")
[ "$(id -u)" = 0 ] || { echo "tests/full_disk.sh needs root, for its tmpfs mounts" >&2; exit 1; }

work=$(mktemp -d)
trap 'umount "$work/small" "$work/turning" 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
for class in a b; do
    mkdir -p "set/train/$class" "set/test/$class"
    for i in 1 2 3 4 5 6 7 8; do
        for part in train test; do
            { printf 'P6\n16 16\n255\n'; head -c 768 /dev/urandom; } > "set/$part/$class/$i.ppm"
        done
    done
done
train="$program train set --size 16 --filters 16 --dense 64 --batch-size 4 --panels 0 --device cpu"
$train --epochs 60 --out whole > log 2>&1 || { cat log; exit 1; }
mkdir small turning

same() {
    for file in best.safetensors last.safetensors history.csv; do
        cmp "whole/$file" "$1/$file" || { echo "FAILED: $file is not that of the run that never stopped" >&2; exit 1; }
    done
}

# One state and not two: the second save finds no space for its temporary file.
size=$(stat -c %s whole/last.safetensors)
mount -t tmpfs -o size="$((size * 3 / 2 / 1024))k" none small
if $train --epochs 60 --out small/run > log 2>&1; then echo "FAILED: the disk was not full" >&2; exit 1; fi
grep "^Error" log
grep -q "No space left on device" log && grep -q "last.safetensors is whole (epoch 0)" log && grep -q -- "--resume small/run" log
[ -z "$(find small -name '.wgradcam-*')" ] || { echo "FAILED: a temporary file stays on the full disk" >&2; exit 1; }
mount -o remount,size=32m small
$program train --resume small/run --panels 0 --device cpu > log 2>&1 || { cat log; exit 1; }
same small/run

# Read-only in the middle, as a file system makes itself after an error of its disk.
mount -t tmpfs -o size=32m none turning
$train --epochs 60 --save-every 0 --out turning/run > log 2>&1 &
pid=$!
until [ -e turning/run/history.csv ]; do sleep 0.01; done
until mount -o remount,ro turning 2>/dev/null; do :; done
if wait "$pid"; then echo "FAILED: the training ended before the disk turned" >&2; exit 1; fi
grep "^Error" log
grep -q "Read-only file system" log && grep -q -- "--resume turning/run" log
mount -o remount,rw turning
$program train --resume turning/run --panels 0 --device cpu > log 2>&1 || { cat log; exit 1; }
same turning/run
echo "both came to the bytes of the run that never stopped"
