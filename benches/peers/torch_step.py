#!/usr/bin/env python3
"""Times PyTorch on the notebook's training step: the CPU, or the GPU where there is one.

    torch_step.py --problem problem.safetensors [--device cpu|cuda] [--ways eager,graphs_cl] [--precisions fp32,tf32,amp] [--json]

The problem (weights, pictures, labels, losses) is what `cargo bench --bench step -- --write FILE` makes. Every contender must
give its losses over steps without dropout before it is timed. Needs torch alone, no network, no numpy.

A way is how the step is run, with _cl in channels_last (NHWC):
  eager           as written
  compile         torch.compile around forward and loss
  graphs          the whole step captured in a CUDA graph (CUDA only)
  compile_graphs  the compiled step captured in a CUDA graph (CUDA only)
A precision is fp32 (TF32 off), tf32 (cuDNN and matmul in TF32) or amp (bfloat16 autocast); the CPU has fp32 only.

A step is: gather of resident u8 pictures, rescale, forward, loss, backward, Adam (fused, epsilon 1e-7 as Keras). Measured are
  train_step     waiting for the loss of every step
  train_run      a step of many with one wait at their end
  predict_batch  an eager forward pass of the same layout and precision, per batch
"""

import argparse
import contextlib
import json
import statistics
import struct
import sys
import time

import torch
from torch import nn

EPSILON = 1e-7  # Keras's, outside its bias correction; torch's own default is 1e-8, inside
# Allowed of the first loss and of the losses after an update, relative. Adam's first update is nearly the sign of the gradient, so
# that a coarse product moves the loss after it by more than its own error.
TOLERANCE = {"fp32": (1e-5, 1e-3), "tf32": (2e-3, 5e-2), "amp": (1e-2, 2e-1)}
CPU_WAYS = ("eager", "eager_cl", "compile_cl")
CUDA_WAYS = ("eager", "eager_cl", "compile_cl", "graphs", "graphs_cl", "compile_graphs_cl")


def read_problem(path):
    """The file's tensors, read by hand so that nothing but torch is needed."""
    with open(path, "rb") as f:
        (length,) = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(length)), bytearray(f.read())
    types = {"F32": torch.float32, "U8": torch.uint8}
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        tensors[name] = torch.frombuffer(data[begin:end], dtype=types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def network(problem, dropout):
    """The notebook's network with the problem's weights."""
    layers = []
    for i in (1, 2, 3):
        kernel = problem[f"conv2d_{i}/kernel"]
        h, w, cin, cout = kernel.shape
        conv = nn.Conv2d(cin, cout, (h, w))
        conv.weight.data, conv.bias.data = kernel.permute(3, 2, 0, 1).contiguous(), problem[f"conv2d_{i}/bias"].clone()
        layers += [conv, nn.ReLU(), nn.MaxPool2d(2)]
    # Keras flattens (row, column, channel), torch (channel, row, column).
    channels = layers[-3].out_channels
    kernel = problem["dense_1/kernel"]
    dense = nn.Linear(*kernel.shape)
    dense.weight.data = kernel.reshape(-1, channels, kernel.shape[1]).permute(2, 1, 0).reshape(kernel.shape[1], -1).contiguous()
    dense.bias.data = problem["dense_1/bias"].clone()
    kernel = problem["output/kernel"]
    output = nn.Linear(*kernel.shape)
    output.weight.data, output.bias.data = kernel.t().clone(), problem["output/bias"].clone()
    return nn.Sequential(*layers, nn.Flatten(), dense, nn.ReLU(), nn.Dropout(dropout), output)


class Step:
    """One contender: builds the step, and replays it by calling."""

    def __init__(self, problem, device, way, precision, dropout, epsilon):
        self.device, self.epsilon = device, epsilon
        self.layout = torch.channels_last if way.endswith("_cl") else torch.contiguous_format
        self.precision = precision
        technique = way.removesuffix("_cl")
        self.pictures = problem["pictures"].to(device)
        self.labels = problem["labels"].to(device)
        self.order = torch.arange(len(self.labels), device=device)
        self.model = network(problem, dropout).to(device).to(memory_format=self.layout)
        captured = technique in ("graphs", "compile_graphs")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=epsilon, fused=True, capturable=captured)
        self.loss_of = torch.compile(self.forward) if technique.startswith("compile") else self.forward
        self.graph = None
        if captured:
            self.capture(problem, dropout)

    def input(self):
        x = self.pictures[self.order].permute(0, 3, 1, 2).float() * (1.0 / 255.0)
        return x.contiguous(memory_format=self.layout)

    def autocast(self):
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.precision == "amp" else contextlib.nullcontext()

    def forward(self):
        with self.autocast():
            logits = self.model(self.input()).flatten()
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), self.labels[self.order])

    def train(self):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def capture(self, problem, dropout):
        """https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture"""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.train()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.captured_loss = self.train()
        # The warm-up trained: back to the first weights and to an optimizer that has seen nothing, in the captured memory.
        fresh = network(problem, dropout)
        with torch.no_grad():
            for mine, its in zip(self.model.parameters(), fresh.parameters()):
                mine.copy_(its.to(self.device))
        for state in self.optimizer.state.values():
            for tensor in state.values():
                tensor.zero_()

    def __call__(self):
        if self.graph is None:
            return self.train()
        self.graph.replay()
        return self.captured_loss

    def predict(self):
        self.model.eval()
        with torch.no_grad(), self.autocast():
            out = torch.sigmoid(self.model(self.input()).float())
        self.model.train()
        return out

    def synchronize(self):
        if self.device == "cuda":
            torch.cuda.synchronize()


def check(problem, device, way, precision):
    """The losses at the first weights and after one update, against the problem's."""
    # Keras adds epsilon before the bias correction, torch after it: this one makes their first updates equal.
    step = Step(problem, device, way, precision, dropout=0.0, epsilon=EPSILON / (1 - 0.999) ** 0.5)
    losses = [step().item(), step().item()]
    for i, (loss, expected) in enumerate(zip(losses, problem["losses"].tolist())):
        allowed = TOLERANCE[precision][i] * abs(expected)
        if not abs(loss - expected) <= allowed:
            raise ValueError(f"the loss of step {i} is {loss}, {expected} expected: not the same step")
    return losses


def clock(run, n, synchronize):
    times = []
    for _ in range(n):
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def spread(times, per=1):
    times = [t / per for t in times]
    return {"median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times), "runs": len(times)}


def measure(problem, device, way, precision, steps):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.manual_seed(0)
    losses = check(problem, device, way, precision)
    step = Step(problem, device, way, precision, dropout=0.5, epsilon=EPSILON)
    started = time.perf_counter()
    step().item()
    first = time.perf_counter() - started
    for _ in range(3):
        step()
    waited = clock(lambda: step().item(), steps, step.synchronize)
    run = clock(lambda: [step() for _ in range(steps)], 3, step.synchronize)
    step.predict()
    predict = clock(step.predict, steps, step.synchronize)
    return {
        "losses": losses,
        "first_step_s": first,
        "train_step": spread(waited),
        "train_run": spread(run, steps),
        "predict_batch": spread(predict),
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--problem", required=True)
    p.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--ways", help="comma-separated (default: all)")
    p.add_argument("--precisions", help="comma-separated (default: all that the device has)")
    p.add_argument("--steps", type=int, default=20)
    p.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = p.parse_args()
    cuda = args.device == "cuda"
    if cuda and not torch.cuda.is_available():
        raise SystemExit("Error: --device cuda, but this torch sees no CUDA device")
    ways = args.ways.split(",") if args.ways else CUDA_WAYS if cuda else CPU_WAYS
    precisions = args.precisions.split(",") if args.precisions else ("fp32", "tf32", "amp") if cuda else ("fp32",)
    torch.backends.cudnn.benchmark = True
    problem = read_problem(args.problem)
    what = torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} threads"
    result = {"torch": torch.__version__, "device": what, "batch": len(problem["labels"]), "rows": {}, "failed": {}}
    if not args.json:
        print(f"torch {torch.__version__}, {what}, batch {result['batch']}")
        print(f"{'way':18} {'precision':9} {'train_step ms':>24} {'train_run':>9} {'predict_batch':>13} {'first s':>7}")
    for way in ways:
        for precision in precisions:
            try:
                row = measure(problem, args.device, way, precision, args.steps)
            except Exception as e:  # one way that this torch or machine does not have must not cost the others
                result["failed"][f"{way} {precision}"] = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"
                print(f"{way} {precision} failed: {result['failed'][f'{way} {precision}']}", file=sys.stderr)
                continue
            result["rows"][f"{way} {precision}"] = row
            if not args.json:
                t = row["train_step"]
                step = f"{t['median_ms']:.3f} ({t['min_ms']:.3f}..{t['max_ms']:.3f})"
                run, predict = row["train_run"]["median_ms"], row["predict_batch"]["median_ms"]
                print(f"{way:18} {precision:9} {step:>24} {run:9.3f} {predict:13.3f} {row['first_step_s']:7.2f}", flush=True)
    if args.json:
        print(json.dumps(result))
    if not result["rows"]:
        raise SystemExit("Error: nothing could be timed")


if __name__ == "__main__":
    main()
