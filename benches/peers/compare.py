#!/usr/bin/env python3
"""Ours and Keras's training step and prediction, in alternation on this machine, with the ratios.

    benches/peers/install.sh                       # once; Keras into a folder that git ignores
    python3 benches/peers/compare.py --rounds 5 [--devices cpu,gpu] [--json]

A round runs each contender once; the figures are medians over the rounds of each run's own median. All in f32, batch 64,
the notebook's network, random resident pictures.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(command, what):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{what} failed: {' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(device, batch):
    # A software adapter is slow enough that few steps give a steady median.
    steps = 10 if device == "cpu" else 4
    command = ["cargo", "bench", "-q", "--bench", "step", "--", "--device", device, "--batch", str(batch), "--steps", str(steps)]
    out = run(command, f"our step on {device}")
    return out["device"], out["train_step"]["median_ms"], out["predict_batch"]["median_ms"] / batch


def keras(batch):
    python = HERE / ".venv" / "bin" / "python"
    if not python.exists():
        sys.exit(f"{python} is missing: run benches/peers/install.sh first")
    command = [python, HERE / "keras_step.py", "--batch", str(batch), "--steps", "10", "--jit", "off", "--json"]
    out = run(command, "Keras's step")
    m = out["measured"]["no_xla"]
    v = out["versions"]
    name = f"Keras {v['keras']}, tensorflow-cpu {v['tensorflow']}"
    # Keras's own train_on_batch and a tf.function step: the faster of the two is what a user could have.
    return name, min(m["train_step"]["median"], m["train_on_batch"]["median"]), m["predict_batch"]["median"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--devices", default="cpu,gpu", help="our devices, comma-separated (default: cpu,gpu)")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    contenders = {"Keras": lambda: keras(args.batch)}
    for device in args.devices.split(","):
        contenders[f"ours, {device}"] = lambda device=device: ours(device, args.batch)
    rows = {name: [] for name in contenders}
    for i in range(args.rounds):
        for name, measure in contenders.items():
            rows[name].append(measure())
            print(f"round {i + 1}: {name}: step {rows[name][-1][1]:.1f} ms", file=sys.stderr)
    base = [statistics.median(r[k] for r in rows["Keras"]) for k in (1, 2)]
    table = []
    for name, runs in rows.items():
        step, predict = (statistics.median(r[k] for r in runs) for k in (1, 2))
        table.append({
            "contender": name, "what": runs[0][0], "rounds": len(runs),
            "step_ms": step, "step_min_ms": min(r[1] for r in runs), "step_max_ms": max(r[1] for r in runs),
            "predict_ms_per_picture": predict, "step_ratio": step / base[0], "predict_ratio": predict / base[1],
        })
    if args.json:
        print(json.dumps({"machine": platform.platform(), "batch": args.batch, "table": table}, indent=1))
        return
    print(f"{'contender':14} {'step ms (min..max)':>26} {'ours/Keras':>10} {'predict ms/picture':>19} {'ours/Keras':>10}  what")
    for r in table:
        step = f"{r['step_ms']:.1f} ({r['step_min_ms']:.1f}..{r['step_max_ms']:.1f})"
        print(f"{r['contender']:14} {step:>26} {r['step_ratio']:>10.2f} {r['predict_ms_per_picture']:>19.3f} {r['predict_ratio']:>10.2f}  {r['what']}")


if __name__ == "__main__":
    main()
