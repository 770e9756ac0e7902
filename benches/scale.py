#!/usr/bin/env python3
"""Whether memory stays flat over epochs, and whether time grows in step with the pictures. Needs the built program and nothing else.

    cargo build --release
    python3 benches/scale.py memory [--devices cpu,gpu] [--quick] [--json]    # resident memory after 2 and after --epochs epochs
    python3 benches/scale.py growth [--devices cpu,gpu] [--quick] [--json]    # an epoch's time from 500 to 50,000 pictures
    python3 benches/scale.py peak   [--devices cpu,gpu] [--quick] [--json]    # largest memory of a run over 4,486 + 1,122 pictures

The pictures are made: noise with a bright square on one class, as PPM files of which many are hard links to one (the program reads and
keeps every one). Reading memory needs Linux's /proc. Exits 1 when a bar is missed: memory after the last epoch more than 2 % and 2 MiB
above that after the second, a step at the largest set slower than 1.25 times one at the smallest (where that has ten steps or more), a peak
above 1.5 GiB.
"""

import argparse
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINE = re.compile(r"^(\d+)/\d+ - ")  # progress.rs: the line that ends an epoch
DISTINCT = 200


def make(folder, train, test, size):
    """train/<class>/ and test/<class>/ with two classes in turn."""
    rng = random.Random(0)
    originals = []
    for i in range(min(DISTINCT, train + test)):
        pixels = bytearray(rng.randbytes(3 * size * size))
        if i % 2:
            side, at = size // 4, rng.randrange(size // 2)
            for y in range(at, at + side):
                pixels[3 * (y * size + at) : 3 * (y * size + at + side)] = b"\xff" * (3 * side)
        original = folder / f"{i}.ppm"
        original.write_bytes(b"P6 %d %d 255\n" % (size, size) + pixels)
        originals.append(original)
    for part, count in (("train", train), ("test", test)):
        for name in "ab":
            (folder / part / name).mkdir(parents=True)
        for i in range(count):
            # An even number of originals: the class stays the original's.
            os.link(originals[i % (len(originals) & ~1)], folder / part / "ab"[i % 2] / f"{i:06}.ppm")


def status(pid, key):
    """A line of /proc/PID/status in MiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024
    return None


def train(args, data, device, epochs, size, batch):
    """Runs a training; per epoch its steps, when it ended and the resident memory then; the peak of the whole run."""
    with tempfile.TemporaryDirectory() as out:
        command = [args.binary, "train", data, "--out", out, "--overwrite", "--epochs", epochs, "--size", size, "--batch-size", batch]
        command += ["--device", device, "--panels", 2]
        process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        marks = []
        for line in process.stdout:
            if found := LINE.match(line):
                marks.append((int(found[1]), time.perf_counter(), status(process.pid, "VmRSS")))
        errors = process.stderr.read()
        _, code, usage = os.wait4(process.pid, 0)
        if code or len(marks) != epochs:
            sys.exit(f"Error: {' '.join(map(str, command))} gave {len(marks)} epochs and ended with {code}\n{errors}")
        return marks, usage.ru_maxrss / 1024


def memory(args):
    pictures, size, epochs = (128, 32, 20) if args.quick else (512, 128, 100)
    epochs = args.epochs or epochs
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder), pictures, 64, size)
        for device in args.devices:
            marks, peak = train(args, folder, device, epochs, size, 64)
            second, last = marks[1][2], marks[-1][2]
            rows.append({"device": device, "pictures": pictures, "size": size, "epochs": epochs, "after_2_mib": second,
                         "after_last_mib": last, "most_after_2_mib": max(m[2] for m in marks[1:]), "peak_mib": peak,
                         "passed": last <= max(1.02 * second, second + 2)})
    return rows


def growth(args):
    sizes, size = ((200, 800), 32) if args.quick else ((500, 5_000, 50_000), 128)
    if args.pictures:
        sizes = [int(n) for n in args.pictures.split(",")]
    size = args.size or size
    rows = []
    for device in args.devices:
        first = None
        for pictures in sizes:
            with tempfile.TemporaryDirectory() as folder:
                make(pathlib.Path(folder), pictures, 2, size)
                # The first epoch warms up; the second's time lies between two lines.
                marks, peak = train(args, folder, device, 2, size, 50)
            seconds, steps = marks[1][1] - marks[0][1], marks[1][0]
            step = 1e3 * seconds / steps
            first = first or (step if steps >= 10 else None)
            rows.append({"device": device, "pictures": pictures, "size": size, "steps": steps, "epoch_s": seconds, "ms_per_step": step,
                         "us_per_picture": 1e6 * seconds / pictures, "peak_mib": peak, "passed": not first or step <= 1.25 * first})
    return rows


def peak(args):
    train_set, test_set, size = (448, 112, 64) if args.quick else (4486, 1122, 128)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder), train_set, test_set, size)
        for device in args.devices:
            _, most = train(args, folder, device, 1, size, 64)
            rows.append({"device": device, "pictures": train_set + test_set, "size": size, "peak_mib": most, "passed": most < 1536})
    return rows


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["memory", "growth", "peak"])
    p.add_argument("--devices", default="cpu,gpu", help="comma-separated (default: cpu,gpu)")
    p.add_argument("--quick", action="store_true", help="small sizes, seconds instead of minutes")
    p.add_argument("--epochs", type=int, help="of memory (default: 100)")
    p.add_argument("--pictures", help="of growth, comma-separated (default: 500,5000,50000)")
    p.add_argument("--size", type=int, help="side of growth's pictures in pixels (default: 128)")
    p.add_argument("--binary", default=str(ROOT / "target" / "release" / "wgradcam"))
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    args.devices = args.devices.split(",")
    if not pathlib.Path(args.binary).is_file():
        sys.exit(f"Error: {args.binary} is missing: cargo build --release first, or name it with --binary")
    rows = {"memory": memory, "growth": growth, "peak": peak}[args.what](args)
    if args.json:
        print(json.dumps(rows))
    else:
        print("  ".join(f"{key:>16}" for key in rows[0]))
        for row in rows:
            print("  ".join(f"{f'{value:.2f}' if isinstance(value, float) else str(value):>16}" for value in row.values()))
    sys.exit(0 if all(row["passed"] for row in rows) else 1)


if __name__ == "__main__":
    main()
