#!/usr/bin/env python3
"""Times Keras on the notebook's network with random data that is already in memory: no file is read.

  train_step       one tf.function call: forward, loss, backward, Adam, metrics (what fit runs per batch), data resident
  train_on_batch   the same through Keras' Python entry point, metrics fetched each step
  predict_batch    model.predict_on_batch of one batch, per picture
  predict_one      model.predict_on_batch of one picture
  gradcam          the notebook's make_gradcam_heatmap for its three layers, a new Model per call as there, per picture

Each figure is a median over --steps runs after --warmup, with the quartiles and extremes. Keras 3 turns XLA on by itself
(jit_compile="auto"); the notebook's Keras 2 did not. --jit says which; "both" measures one after the other.
"""

import argparse
import json
import statistics
import time

import notebook as nb
import numpy as np


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--warmup", type=int, default=3)
    p.add_argument("--gradcams", type=int, help="pictures explained (default: as many as --steps)")
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--classes", type=int, default=2)
    p.add_argument("--threads", type=int, help="default: the cores this process may use")
    p.add_argument("--jit", choices=["off", "on", "both"], default="both")
    p.add_argument("--problem", help="weights, pictures and losses from `cargo bench --bench step -- --write FILE`, in place of random ones")
    p.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = p.parse_args()

    threads = nb.setup(seed=0, threads=args.threads)
    result = {"args": vars(args), "versions": nb.versions(), "threads": threads, "unit": "ms", "measured": {}}
    for jit in {"off": [False], "on": [True], "both": [False, True]}[args.jit]:
        result["measured"]["xla" if jit else "no_xla"] = measure(args, jit)
    result["peak_memory_mib"] = nb.peak_memory_mib()
    if args.json:
        print(json.dumps(result))
    else:
        show(result)


def random_batch(args):
    rng = np.random.default_rng(0)
    x = rng.random((args.batch, args.size, args.size, 3), dtype=np.float32)
    label = rng.integers(args.classes, size=args.batch)
    return x, label.astype(np.float32)[:, None] if args.classes <= 2 else np.eye(args.classes, dtype=np.float32)[label]


def check(problem, x, y, jit):
    """Keras must give the problem's losses over steps without dropout: else it is not the same step that is timed."""
    model = nb.build_model(2, x.shape[1], dropout=0.0, jit_compile=jit)
    nb.load_weights(model, problem)
    step = nb.tf.function(lambda: model.train_step((x, y)), jit_compile=jit)
    model.optimizer.build(model.trainable_variables)
    expected = nb.load_file(problem)["losses"]
    for i, wanted in enumerate(expected):
        model.reset_metrics()  # Keras's loss is a running mean
        loss = float(step()["loss"])
        if not abs(loss - wanted) <= 1e-4 * abs(wanted):
            raise SystemExit(f"Error: Keras's loss of step {i} is {loss}, {wanted} expected: not the same step")


def measure(args, jit):
    if args.problem:
        stored = nb.load_file(args.problem)
        x, y = stored["pictures"].astype(np.float32) * np.float32(nb.RESCALE), stored["labels"][:, None]
        args.batch = len(x)
    else:
        x, y = random_batch(args)
    x, y, one = nb.tf.constant(x), nb.tf.constant(y), x[:1]
    if args.problem:
        check(args.problem, x, y, jit)
    model = nb.build_model(args.classes, args.size, jit_compile=jit)
    model.train_on_batch(x, y)  # builds the optimizer's moments, which a tf.function may not
    step = nb.tf.function(lambda: model.train_step((x, y)), jit_compile=jit)

    def train_step():
        return step()["loss"].numpy()  # waits for the update's own step: TensorFlow on a CPU runs a function to its end

    def gradcam():
        for layer in nb.CONV_LAYERS:
            nb.make_gradcam_heatmap(one, model, layer)

    return {
        "train_step": clock(train_step, args.steps, args.warmup),
        "train_on_batch": clock(lambda: model.train_on_batch(x, y), args.steps, args.warmup),
        "predict_batch": clock(lambda: model.predict_on_batch(x), args.steps, args.warmup, per=args.batch),
        "predict_one": clock(lambda: model.predict_on_batch(one), args.steps, args.warmup),
        "gradcam": clock(gradcam, args.gradcams or args.steps, args.warmup),
    }


def clock(run, steps, warmup, per=1):
    for _ in range(warmup):
        run()
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        run()
        times.append((time.perf_counter() - started) * 1e3 / per)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return {
        "median": statistics.median(times),
        "quartile_1": low,
        "quartile_3": high,
        "min": min(times),
        "max": max(times),
        "runs": len(times),
    }


def show(result):
    for name, version in result["versions"].items():
        print(f"{name:14} {version}")
    print(f"{'threads':14} {result['threads']}\n{'batch':14} {result['args']['batch']}")
    for mode, rows in result["measured"].items():
        print(f"\n{mode:16} {'median':>9} {'quartiles':>19} {'min':>9} {'max':>9}  ms")
        for name, t in rows.items():
            quartiles = f"{t['quartile_1']:.3f}-{t['quartile_3']:.3f}"
            print(f"{name:16} {t['median']:9.3f} {quartiles:>19} {t['min']:9.3f} {t['max']:9.3f}")
    print(f"\npeak memory {result['peak_memory_mib']} MiB")


if __name__ == "__main__":
    main()
