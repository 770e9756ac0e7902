#!/usr/bin/env python3
"""The notebook's Grad-CAM (target: the output p, as `wgradcam gradcam --target output`) of given pictures, as .npy files.

For each picture and convolution layer, into --out, all float32:
  <stem>_<layer>_raw.npy   A @ mean gradient of p, at the layer's own size, signed
  <stem>_<layer>.npy       max(raw, 0) / max(raw), resized to the input's size (bilinear): what the notebook draws
and predictions.json with each picture's probability and logit.
"""

import argparse
import json
import pathlib

import notebook as nb
import numpy as np


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("weights", metavar="WEIGHTS.safetensors")
    p.add_argument("images", nargs="+", type=pathlib.Path, metavar="IMAGE")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--size", type=int, default=128)
    args = p.parse_args()
    stems = [path.stem for path in args.images]
    twice = sorted({s for s in stems if stems.count(s) > 1})
    if twice:
        raise SystemExit(f"Error: files are named by stem and these stems come twice: {', '.join(twice)}")

    missing = [str(path) for path in args.images if not path.is_file()]
    if missing:
        raise SystemExit(f"Error: no such file: {', '.join(missing)}")

    nb.setup(deterministic=True)
    model = nb.build_model(nb.classes_in(args.weights), args.size)
    nb.load_weights(model, args.weights)
    hidden = nb.head_inputs(model)
    args.out.mkdir(parents=True, exist_ok=True)

    predictions = {}
    for path in args.images:
        image = np.expand_dims(nb.read_image(path, args.size), axis=0)
        for layer in nb.CONV_LAYERS:
            heatmap, preds, raw = nb.make_gradcam_heatmap(image, model, layer)
            np.save(args.out / f"{path.stem}_{layer}.npy", heatmap.astype(np.float32))
            np.save(args.out / f"{path.stem}_{layer}_raw.npy", raw.astype(np.float32))
        logit = nb.logits(model, hidden(image))[0]
        predictions[path.stem] = {"path": str(path), "probability": preds[0].tolist(), "logit": logit.tolist()}
        print(f"{path}: p = {preds[0]}, logit = {logit}")
    (args.out / "predictions.json").write_text(json.dumps(predictions, indent=1) + "\n")


if __name__ == "__main__":
    main()
