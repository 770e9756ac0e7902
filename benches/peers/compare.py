#!/usr/bin/env python3
"""Ours and the peers' times on this machine, run in alternation, with the ratios.

    python3 benches/peers/compare.py [--suite step|load|gradcam] [--rounds 5] [--devices cpu,gpu] [--peers keras,torch,burn] [--json]

  step     a training step and a prediction: the notebook's network, batch 64, Adam, random resident pictures. Peers get the weights
           and pictures that ours starts from and must give our losses before they are timed
  load     reading 4,486 JPEGs of 128 x 128 made from --pictures into memory, the files in the system's cache (Keras); ours by
           decoding every picture, and as a second run does, from its cache
  gradcam  the maps of three layers, per picture: ours over 1,122 pictures in batches, the notebook's function one by one (Keras)

A round runs each contender once; a figure is the median over the rounds of each run's own median, beside the least and largest of
those. Peers that are asked for and not there are installed first, by install.sh into folders that git ignores: Keras is 1.8 GB, PyTorch,
where the machine has none, 4.7 GB, and burn half an hour of building on two cores. With --no-install, or where that fails, they are named
as absent. burn's wgpu back end tunes itself for minutes when it runs for the first time, and keeps what it found.
--ours FOLDER takes our benches from there (step, loader, gradcam), where there is no cargo.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
KERAS = HERE / ".venv" / "bin" / "python"
BURN = HERE / "burn" / "target" / "release" / "burn-step"


def run(command, what):
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise RuntimeError(f"{what} failed: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return json.loads(lines[-1])


def our_command(args, name):
    return [Path(args.ours) / name] if args.ours else ["cargo", "bench", "-q", "--bench", name, "--"]


def our_bench(args, name, *more):
    return run([*our_command(args, name), *more, "--json"], f"our {name}")


def torch_python():
    """Our own installation, else the machine's, if it has torch."""
    for python in (HERE / ".torch" / "bin" / "python", shutil.which("python3")):
        if python and Path(python).exists() and subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0:
            return python
    return None


def ours_name(device, precision="f32"):
    return f"ours, {device}" if precision == "f32" else f"ours, {device} in {precision}"


def ready(args, name, peer, there):
    """Whether a peer is there, installed first if it is not."""
    if not there() and not args.no_install:
        print(f"installing {name}: {HERE / 'install.sh'} {peer}", file=sys.stderr)
        subprocess.run([HERE / "install.sh", peer], stdout=sys.stderr)
    return present(name, there())


# --- suites: each gives {contender: measure}; a measurement is {row: {figure: milliseconds}} ---------------------


def step_suite(args, scratch):
    problem = scratch / "problem.safetensors"

    def ours(device, precision):
        # A software adapter is slow enough that few steps give a steady median.
        steps = args.steps or (10 if device == "cpu" else 4)
        out = our_bench(args, "step", "--device", device, "--precision", precision, "--batch", str(args.batch), "--steps", str(steps))
        return {f"{ours_name(device, precision)}: {out['device']}": figures(out)}

    def keras():
        out = run([KERAS, HERE / "keras_step.py", "--problem", problem, "--steps", args.steps or 10, "--jit", "off", "--json"], "Keras")
        m, v = out["measured"]["no_xla"], out["versions"]
        # Keras's own train_on_batch and a tf.function step: the faster of the two is what a user could have.
        faster = min(m["train_step"]["median"], m["train_on_batch"]["median"])
        return {f"Keras {v['keras']}, tensorflow {v['tensorflow']}": {"step": faster, "predict": m["predict_batch"]["median"] * args.batch}}

    def torch(python, device):
        command = [python, HERE / "torch_step.py", "--problem", problem, "--device", device, "--steps", args.steps or 10, "--json"]
        for option, value in (("--ways", args.ways), ("--precisions", args.precisions)):
            command += [option, value] if value else []
        out = run(command, "PyTorch")
        for way, why in out["failed"].items():
            print(f"PyTorch {way}: {why}", file=sys.stderr)
        return {f"PyTorch {out['torch']}, {device}, {way}": figures(row) for way, row in out["rows"].items()}

    def burn(device):
        steps = args.steps or (10 if device == "flex" else 3)
        out = run([BURN, "--problem", problem, "--device", device, "--steps", steps], "burn")
        print(f"{out['device']}: the first two steps took {out['first_step_s']:.0f} s", file=sys.stderr)
        return {out["device"]: figures(out)}

    def figures(out):
        names = {"step": "train_step", "run": "train_run", "predict": "predict_batch"}
        return {short: out[name]["median_ms"] for short, name in names.items() if name in out}

    if subprocess.run([*our_command(args, "step"), "--batch", str(args.batch), "--write", problem], cwd=ROOT).returncode != 0:
        sys.exit("Error: our step bench could not write the problem for the peers")
    suite = {
        ours_name(device, precision): lambda device=device, precision=precision: ours(device, precision)
        for device in args.devices
        for precision in args.our_precisions.split(",")
        if device != "cpu" or precision == "f32"
    }
    if "keras" in args.peers and ready(args, "Keras", "keras", KERAS.exists):
        suite["Keras"] = keras
    if "torch" in args.peers and ready(args, "PyTorch", "torch", torch_python):
        python = torch_python()
        suite["PyTorch, cpu"] = lambda: torch(python, "cpu")
        cuda = subprocess.run([python, "-c", "import torch; assert torch.cuda.is_available()"], capture_output=True).returncode == 0
        if present("PyTorch on CUDA (no device)", cuda):
            suite["PyTorch, cuda"] = lambda: torch(python, "cuda")
    if "burn" in args.peers and ready(args, "burn", "burn", BURN.exists):
        suite["burn, flex"] = lambda: burn("flex")
        suite["burn, wgpu"] = lambda: burn("wgpu")
    return suite


def load_suite(args, scratch):
    if not ready(args, "Keras (needed to make the JPEGs too)", "keras", KERAS.exists):
        sys.exit("Error: without Keras's interpreter there are no JPEGs")
    folder = scratch / "jpegs"
    subprocess.run([KERAS, HERE / "make_jpegs.py", args.pictures, folder], check=True, stdout=sys.stderr)

    def ours(*cache):
        out = our_bench(args, "loader", "--folder", folder, "--runs", "3", *cache)
        name = "ours, from the cache" if cache else "ours"
        return {f"{name}: {out['threads']} threads": {"all": out["load"]["median_ms"]}}

    def keras(workers):
        out = run([KERAS, HERE / "keras_load.py", folder, "--workers", workers, "--json"], "Keras")
        return {f"Keras {out['versions']['keras']}, {workers} worker(s)": {"all": out["load"]["median_ms"]}}

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    suite = {"ours": ours, "ours, from the cache": lambda: ours("--cache")}
    suite |= {f"Keras, {n} workers": lambda n=n: keras(n) for n in sorted({1, cores}) if "keras" in args.peers}
    return suite


def gradcam_suite(args, _):
    def ours(device):
        # A software adapter takes minutes for the whole set.
        pictures = args.gradcams or (1122 if device == "cpu" else 128)
        out = our_bench(args, "gradcam", "--device", device, "--pictures", str(pictures), "--runs", "1")
        return {f"{ours_name(device)}: {pictures} pictures": {"picture": out["per_picture"]["median_ms"]}}

    def keras():
        out = run([KERAS, HERE / "keras_step.py", "--steps", "3", "--gradcams", "20", "--jit", "off", "--json"], "Keras")
        return {f"Keras {out['versions']['keras']}, the notebook's function": {"picture": out["measured"]["no_xla"]["gradcam"]["median"]}}

    suite = {ours_name(device): lambda device=device: ours(device) for device in args.devices}
    if "keras" in args.peers and ready(args, "Keras", "keras", KERAS.exists):
        suite["Keras"] = keras
    return suite


# --- the comparison -------------------------------------------------------------------------------------------------------------


def present(name, there):
    if not there:
        print(f"absent: {name}", file=sys.stderr)
    return there


def measure(suite, rounds):
    """{row: {figure: [a value per round]}}, contenders in alternation."""
    rows = {}
    for i in range(rounds):
        for name, contender in suite.items():
            try:
                found = contender()
            except (RuntimeError, OSError) as e:
                print(f"round {i + 1}: {name}: {e}", file=sys.stderr)
                continue
            for row, values in found.items():
                for figure, value in values.items():
                    rows.setdefault(row, {}).setdefault(figure, []).append(value)
                shown = ", ".join(f"{figure} {value:.2f} ms" for figure, value in values.items())
                print(f"round {i + 1}: {row}: {shown}", file=sys.stderr)
    return rows


def table_of(rows):
    """Medians and extremes, and how many times faster each of ours is."""
    table = []
    for row, figures in rows.items():
        for figure, values in figures.items():
            entry = {"contender": row, "figure": figure, "rounds": len(values), "median_ms": statistics.median(values)}
            entry |= {"min_ms": min(values), "max_ms": max(values), "ours_faster": {}}
            for our_row, ours in rows.items():
                if our_row.startswith("ours") and our_row != row and figure in ours:
                    entry["ours_faster"][our_row.split(":")[0]] = entry["median_ms"] / statistics.median(ours[figure])
            table.append(entry)
    return sorted(table, key=lambda e: e["figure"] != "step")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--suite", choices=["step", "load", "gradcam"], default="step")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, help="timed steps per run (default: 10, fewer on slow devices)")
    p.add_argument("--devices", default="cpu,gpu", help="our devices, comma-separated (default: cpu,gpu; none: '')")
    p.add_argument("--peers", default="keras,torch,burn", help="comma-separated (default: all)")
    p.add_argument("--no-install", action="store_true", help="leave out peers that are not installed (default: install them)")
    p.add_argument("--our-precisions", default="f32", help="of our steps on GPUs: f32, f16 or both, comma-separated (default: f32)")
    p.add_argument("--ways", help="PyTorch's ways, see torch_step.py (default: all)")
    p.add_argument("--precisions", help="PyTorch's precisions, see torch_step.py (default: all)")
    p.add_argument("--gradcams", type=int, help="pictures that ours explains (default: 1122 on the CPU, 128 on a GPU)")
    p.add_argument("--pictures", default="cifake_cars/train", help="folder of class folders that the JPEGs are made from")
    p.add_argument("--ours", metavar="FOLDER", help="our benches, built elsewhere, under the names step, loader, gradcam")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    args.devices, args.peers = ([x for x in value.split(",") if x] for value in (args.devices, args.peers))
    with tempfile.TemporaryDirectory() as scratch:
        suite = {"step": step_suite, "load": load_suite, "gradcam": gradcam_suite}[args.suite](args, Path(scratch))
        rows = measure(suite, args.rounds)
    if not rows:
        sys.exit("Error: nothing could be timed")
    table = table_of(rows)
    if args.json:
        print(json.dumps({"machine": platform.platform(), "suite": args.suite, "batch": args.batch, "table": table}, indent=1))
        return
    width = max(len(e["contender"]) for e in table)
    print(f"{'contender':{width}} {'figure':8} {'ms: median (min..max)':>32} {'rounds':>6}  ours is faster by")
    for e in table:
        times = f"{e['median_ms']:.2f} ({e['min_ms']:.2f}..{e['max_ms']:.2f})"
        ratios = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in e["ours_faster"].items())
        print(f"{e['contender']:{width}} {e['figure']:8} {times:>32} {e['rounds']:>6}  {ratios}")


if __name__ == "__main__":
    main()
