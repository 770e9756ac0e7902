"""The notebook in Keras 3: its network, its data, its Grad-CAM, and the weight file it shares with wgradcam.

Imported by keras_train.py, keras_step.py and keras_gradcam.py. Call `setup()` before anything else touches TensorFlow.
"""

import os
import platform
import sys

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from safetensors.numpy import load_file, save_file

# Deprecated since Keras 3 but still there, and the notebook's own reader: same scan, same order, same pixels.
from tensorflow.keras.preprocessing.image import ImageDataGenerator, img_to_array, load_img

CONV_LAYERS = ("conv2d_1", "conv2d_2", "conv2d_3")
RESCALE = 1.0 / 255


def setup(seed=None, threads=None, deterministic=False):
    """Gives TensorFlow the cores this process may use, no more; seeds everything if a seed is given."""
    threads = threads or available_cores()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if seed is not None:
        keras.utils.set_random_seed(seed)
    if deterministic:
        # Also makes Keras' jit_compile="auto" choose no XLA, which is what the notebook's Keras 2 did.
        tf.config.experimental.enable_op_determinism()
    return threads


def available_cores():
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def versions():
    import PIL
    import sklearn

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "pillow": PIL.__version__,
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default (on)"),
        "machine": f"{platform.system()} {platform.machine()}, {available_cores()} cores available",
    }


def peak_memory_mib():
    """Highest resident set of this process so far, in MiB; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


# --- network -----------------------------------------------------------------------------------------------------------


def build_model(classes=2, size=128, dropout=0.5, model_class=keras.Sequential, jit_compile="auto"):
    """The notebook's network, compiled; more than two classes get Dense(K, softmax) and categorical crossentropy."""
    head = layers.Dense(1, activation="sigmoid", name="output")
    loss = "binary_crossentropy"
    if classes > 2:
        head = layers.Dense(classes, activation="softmax", name="output")
        loss = "categorical_crossentropy"
    model = model_class(
        [
            keras.Input((size, size, 3)),
            layers.Conv2D(16, (3, 3), activation="relu", name="conv2d_1"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_1"),
            layers.Conv2D(32, (3, 3), activation="relu", name="conv2d_2"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_2"),
            layers.Conv2D(64, (3, 3), activation="relu", name="conv2d_3"),
            layers.MaxPooling2D((2, 2), name="max_pooling2d_3"),
            layers.Flatten(name="flatten"),
            layers.Dense(128, activation="relu", name="dense_1"),
            layers.Dropout(dropout, name="dropout_1"),
            head,
        ],
        name="sequential",
    )
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


# --- data --------------------------------------------------------------------------------------------------------------


def flow(directory, size, batch, shuffle, classes=None):
    """flow_from_directory as the notebook calls it (categorical labels when there are more than two classes)."""
    mode = "categorical" if classes and classes > 2 else "binary"
    return ImageDataGenerator(rescale=RESCALE).flow_from_directory(
        directory, target_size=(size, size), batch_size=batch, class_mode=mode, shuffle=shuffle
    )


def count_classes(directory):
    """Every sub-directory counts, as it does for flow_from_directory."""
    return sum(entry.is_dir() for entry in os.scandir(directory))


def read_image(path, size):
    """One picture as flow_from_directory reads it: RGB, nearest, EXIF ignored, times f32(1/255)."""
    pixels = img_to_array(load_img(path, target_size=(size, size), interpolation="nearest"))
    pixels *= RESCALE
    return pixels


# --- weights -----------------------------------------------------------------------------------------------------------


def tensors(model):
    """{"conv2d_1/kernel": variable, ...}: HWIO and (in, out), f32, in the order of the layers."""
    return {f"{layer.name}/{v.name}": v for layer in model.layers for v in layer.trainable_variables}


def save_weights(model, path):
    save_file({name: np.ascontiguousarray(v.numpy(), dtype=np.float32) for name, v in tensors(model).items()}, path)


def load_weights(model, path):
    """Other tensors in the file (an optimizer's moments, say) are left alone; a missing one or a wrong shape is an error."""
    stored = load_file(path)
    for name, variable in tensors(model).items():
        if name not in stored:
            raise SystemExit(f"Error: {path}: no tensor {name!r}; it holds {sorted(stored)}")
        if tuple(stored[name].shape) != tuple(variable.shape):
            raise SystemExit(f"Error: {path}: {name} is {stored[name].shape}, the model wants {tuple(variable.shape)}")
        variable.assign(stored[name].astype(np.float32))


def classes_in(path):
    """How many classes a weight file was trained for (one output means two classes)."""
    units = load_file(path)["output/kernel"].shape[1]
    return 2 if units == 1 else units


# --- predictions -------------------------------------------------------------------------------------------------------


def head_inputs(model):
    """The model up to what its last Dense layer reads, so that a logit can be had beside the probability."""
    return keras.Model(model.inputs[0], model.get_layer("dropout_1").output)


def logits(model, hidden):
    kernel, bias = (v.numpy() for v in model.get_layer("output").trainable_variables)
    return np.asarray(hidden, np.float32) @ kernel + bias


# --- Grad-CAM ----------------------------------------------------------------------------------------------------------


def make_gradcam_heatmap(img_array, model, last_conv_layer_name, pred_index=None):
    """The notebook's function; the raw map (before max(.,0)/max and the resize) is handed out as well.

    It differs from the notebook only in how the new Model's ends are named: there `[model.inputs]` and `model.output`, of which
    Keras 3 warns about the first and refuses the second for a Sequential that was never called on a symbolic input.
    """
    h, w = img_array.shape[1:3]
    grad_model = keras.models.Model(
        model.inputs[0], [model.get_layer(last_conv_layer_name).output, model.outputs[0]]
    )
    with tf.GradientTape() as tape:
        last_conv_layer_output, preds = grad_model(img_array)
        if pred_index is None:
            pred_index = tf.argmax(preds[0])
        class_channel = preds[:, pred_index]
    grads = tape.gradient(class_channel, last_conv_layer_output)
    pooled_grads = tf.reduce_mean(grads, axis=(0, 1, 2))
    last_conv_layer_output = last_conv_layer_output[0]
    heatmap = last_conv_layer_output @ pooled_grads[..., tf.newaxis]
    raw = tf.squeeze(heatmap)
    heatmap = tf.maximum(raw, 0) / tf.math.reduce_max(raw)
    heatmap = tf.expand_dims(heatmap, -1)
    heatmap = tf.image.resize(heatmap, (h, w))
    heatmap = tf.squeeze(heatmap)
    return heatmap.numpy(), preds.numpy(), raw.numpy()
