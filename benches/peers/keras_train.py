#!/usr/bin/env python3
"""Trains the notebook's network with Keras on DATA_DIR/train, validating on DATA_DIR/test, as the notebook does.

Writes into --out: history.csv, predictions.csv (of the best weights, on test/), report.txt, best.safetensors,
last.safetensors, run.json; with --save-initial initial.safetensors; with --log-steps steps.csv.
"""

import argparse
import csv
import json
import pathlib
import time

import notebook as nb


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", type=pathlib.Path, help="folder with train/<class>/ and test/<class>/")
    p.add_argument("--epochs", type=int, default=1, help="the notebook trains one (default 1)")
    p.add_argument("--seed", type=int, default=0, help="initial weights, shuffling and dropout (default 0)")
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--dropout", type=float, default=0.5)
    p.add_argument("--init", metavar="FILE.safetensors", help="start from these weights instead of Keras' own")
    p.add_argument("--no-shuffle", action="store_true", help="pictures in directory order, in every epoch")
    p.add_argument("--save-initial", action="store_true", help="write initial.safetensors before the first step")
    p.add_argument("--log-steps", action="store_true", help="write steps.csv: each batch's own loss, before its update")
    p.add_argument("--nondeterministic", action="store_true", help="let TensorFlow order its sums freely (for timing an epoch)")
    return p.parse_args()


def main():
    args = parse()
    threads = nb.setup(seed=args.seed, deterministic=not args.nondeterministic)
    args.out.mkdir(parents=True, exist_ok=True)

    classes = nb.count_classes(args.data / "train")
    shuffle = not args.no_shuffle
    train = nb.flow(args.data / "train", args.size, args.batch, shuffle, classes)
    test = nb.flow(args.data / "test", args.size, args.batch, False, classes)
    if train.class_indices != test.class_indices:
        raise SystemExit(f"Error: train/ has classes {list(train.class_indices)}, test/ has {list(test.class_indices)}")

    steps = StepLosses()
    model = nb.build_model(classes, args.size, args.dropout, model_class=steps.model_class(), jit_compile=False)
    if args.init:
        nb.load_weights(model, args.init)
    if args.save_initial:
        nb.save_weights(model, args.out / "initial.safetensors")
    model.summary()

    best = args.out / "best.weights.h5"  # Keras 3 takes no other ending
    checkpoint = nb.keras.callbacks.ModelCheckpoint(
        str(best), save_best_only=True, save_weights_only=True, mode="max", monitor="val_accuracy"
    )
    times = EpochTimes()
    started = time.perf_counter()
    history = model.fit(
        train,
        epochs=args.epochs,
        validation_data=test,
        shuffle=shuffle,
        callbacks=[checkpoint, times] + ([steps] if args.log_steps else []),
        verbose=2,
    ).history
    fit_seconds = time.perf_counter() - started

    nb.save_weights(model, args.out / "last.safetensors")
    model.load_weights(best)
    best.unlink()
    nb.save_weights(model, args.out / "best.safetensors")

    write_history(args.out / "history.csv", history)
    if args.log_steps:
        write_rows(args.out / "steps.csv", ["epoch", "step", "loss"], steps.rows)
    predicted = write_predictions(args.out / "predictions.csv", model, test)
    write_report(args.out / "report.txt", test, predicted)
    run = {
        "args": {k: str(v) if isinstance(v, pathlib.Path) else v for k, v in vars(args).items()},
        "versions": nb.versions(),
        "threads": threads,
        "classes": train.class_indices,
        "fit_seconds": fit_seconds,
        "epoch_seconds": times.seconds,
        "peak_memory_mib": nb.peak_memory_mib(),
    }
    (args.out / "run.json").write_text(json.dumps(run, indent=1) + "\n")
    print(json.dumps(run))


class StepLosses(nb.keras.callbacks.Callback):
    """fit's logs are running means over the epoch; this keeps the loss that each batch itself had, before its update."""

    def __init__(self):
        super().__init__()
        self.loss = nb.tf.Variable(0.0, trainable=False)
        self.rows = []
        self.epoch = 0

    def model_class(self):
        loss_of_batch = self.loss

        class Sequential(nb.keras.Sequential):
            def compute_loss(self, *args, training=True, **kwargs):
                loss = super().compute_loss(*args, training=training, **kwargs)
                if training:
                    loss_of_batch.assign(loss)
                return loss

        return Sequential

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        self.rows.append([self.epoch, batch + 1, f32(self.loss.numpy())])


class EpochTimes(nb.keras.callbacks.Callback):
    """Wall seconds of each epoch, its validation included."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(round(time.perf_counter() - self.started, 3))


def f32(value):
    """Nine significant digits give an f32 back exactly."""
    return f"{float(value):.9g}"


def write_rows(path, header, rows):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_history(path, history):
    names = ["loss", "accuracy", "val_loss", "val_accuracy"]
    rows = [[epoch, *map(f32, row)] for epoch, row in enumerate(zip(*(history[n] for n in names)), 1)]
    write_rows(path, ["epoch", *names], rows)


def write_predictions(path, model, test):
    """class, probability and logit of the verdict; for two classes the last two are those of class 1, as Keras has them.

    More than two classes add logit_<class> for every class.
    """
    probability = model.predict(test, verbose=0)
    logit = nb.logits(model, nb.head_inputs(model).predict(test, verbose=0))
    names = list(test.class_indices)
    if len(names) <= 2:
        verdict = (probability[:, 0] > 0.5).astype(int)
        rows = [[f, names[c], f32(p[0]), f32(z[0])] for f, c, p, z in zip(test.filenames, verdict, probability, logit)]
        header = []
    else:
        verdict = probability.argmax(axis=1)
        rows = [
            [f, names[c], f32(p[c]), f32(z[c]), *map(f32, z)]
            for f, c, p, z in zip(test.filenames, verdict, probability, logit)
        ]
        header = [f"logit_{n}" for n in names]
    write_rows(path, ["path", "class", "probability", "logit", *header], rows)
    return verdict


def write_report(path, test, predicted):
    from sklearn.metrics import classification_report, confusion_matrix

    report = classification_report(test.classes, predicted)
    path.write_text(f"{report}\nrows true, columns predicted, classes {list(test.class_indices)}\n"
                    f"{confusion_matrix(test.classes, predicted)}\n")
    print(report)


if __name__ == "__main__":
    main()
