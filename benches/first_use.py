#!/usr/bin/env python3
"""What the first use of an adapter costs, cold and warm: `wgradcam profile` in alternation over five states of the caches.

    cargo build --release && python3 benches/first_use.py [--rounds 3]

The caches are Mesa's own on the disk (MESA_SHADER_CACHE_DIR, for lavapipe and Mesa's GPU drivers) and wgradcam's
(WGRADCAM_CACHE), both in a temporary folder. Prints medians and spread of the seconds for finding the adapters, opening the
device, creating the pipelines, the first step and a later step, and the CPU seconds of the whole process, which a busy machine
disturbs less.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

BINARY = Path(__file__).resolve().parent.parent / "target/release/wgradcam"
COLUMNS = ["find", "open", "compile", "first step", "later step", "CPU"]
# Mesa's cache on, kept from the run before, ours kept from the run before.
STATES = {
    "Mesa's off, ours empty": (False, False, False),
    "Mesa's off, ours kept": (False, False, True),
    "Mesa's empty, ours empty": (True, False, False),
    "Mesa's kept, ours empty": (True, True, False),
    "Mesa's kept, ours kept": (True, True, True),
}


def run(root, mesa_on, keep_mesa, keep_ours):
    mesa, ours = root / "mesa", root / "ours"
    for folder, keep in [(mesa, keep_mesa), (ours, keep_ours)]:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    env = dict(os.environ, WGRADCAM_CACHE=str(ours), MESA_SHADER_CACHE_DIR=str(mesa))
    env["MESA_SHADER_CACHE_DISABLE"] = "false" if mesa_on else "true"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [BINARY, "profile", "--device", "gpu", "--repeat", "1", "--json"]
    profile = json.loads(subprocess.run(command, env=env, capture_output=True, check=True).stdout)
    cpu = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    first = profile["first_use"]
    row = [first["find"], first["open"], first["compile"], profile["first_step"], profile["wall"]["median"], cpu]
    return profile, row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    rows = {state: [] for state in STATES}
    with tempfile.TemporaryDirectory() as root:
        for _ in range(args.rounds):
            for state, flags in STATES.items():
                profile, row = run(Path(root), *flags)
                rows[state].append(row)
    kept = profile["first_use"]["pipeline_cache"]
    print(f"{profile['device']}, {profile['adapter']['driver']}: {profile['first_use']['kernels']} kernels, pipeline cache {kept}")
    print(" " * 26 + "".join(f"{c:>24}" for c in COLUMNS))
    for state, all_rows in rows.items():
        cells = (f"{statistics.median(c):.3f} ({min(c):.3f}..{max(c):.3f})" for c in zip(*all_rows))
        print(f"{state:26}" + "".join(f"{c:>24}" for c in cells))


if __name__ == "__main__":
    main()
