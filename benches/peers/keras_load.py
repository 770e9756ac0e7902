#!/usr/bin/env python3
"""Times Keras's flow_from_directory over a whole folder: scan, decode, resize, rescale, every batch once.

    keras_load.py DIR [--size 128] [--batch 64] [--runs 3] [--workers 1] [--json]

--workers above 1 reads batches in that many threads, as `fit(workers=N)` did in Keras 2; the notebook used 1.
"""

import argparse
import concurrent.futures
import contextlib
import io
import json
import statistics
import time

import notebook as nb


def load(directory, size, batch, workers):
    with contextlib.redirect_stdout(io.StringIO()):  # "Found N images ..."
        iterator = nb.flow(directory, size, batch, shuffle=False)
    if workers == 1:
        return sum(len(iterator[i][1]) for i in range(len(iterator)))
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(lambda i: len(iterator[i][1]), range(len(iterator))))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory")
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--workers", type=int, default=1)
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    pictures = load(args.directory, args.size, args.batch, args.workers)  # and the files are in the system's cache
    times = []
    for _ in range(args.runs):
        started = time.perf_counter()
        again = load(args.directory, args.size, args.batch, args.workers)
        times.append((time.perf_counter() - started) * 1e3)
        if again != pictures:
            raise SystemExit(f"Error: {again} pictures now, {pictures} before")
    median = statistics.median(times)
    result = {"versions": nb.versions(), "pictures": pictures, "workers": args.workers, "pictures_per_s": 1e3 * pictures / median}
    result["load"] = {"median_ms": median, "min_ms": min(times), "max_ms": max(times), "runs": len(times)}
    if args.json:
        print(json.dumps(result))
    else:
        print(f"{pictures} pictures: {median:.0f} ms ({min(times):.0f}..{max(times):.0f}), {result['pictures_per_s']:.0f} pictures/s")


if __name__ == "__main__":
    main()
