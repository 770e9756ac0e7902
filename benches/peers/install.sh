#!/usr/bin/env bash
# Installs the peers that are named (keras torch burn; keras alone without a name) into folders beside this file that git ignores:
#   keras   .venv          Keras on TensorFlow's CPU build, 1.8 GB
#   torch   .torch         PyTorch, 4.7 GB: PyPI's wheels for Linux carry CUDA. On a machine that has torch already this is not needed
#   burn    burn/target    burn's wgpu and CPU back ends, built from crates.io: half an hour on two cores
# From PyPI and crates.io, nowhere else. PYTHON=python3.11 ./install.sh chooses the interpreter; TensorFlow 2.21 wants Python 3.10 to 3.13.
set -euo pipefail
cd "$(dirname "$0")"
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL

python_into() {
    "${PYTHON:-python3}" -m venv "$1"
    "$1/bin/python" -m pip install --no-cache-dir --index-url https://pypi.org/simple --requirement "$2"
}

for peer in "${@:-keras}"; do
    case "$peer" in
    keras)
        python_into .venv requirements.txt
        .venv/bin/python -c 'import tensorflow, keras; print("installed: tensorflow", tensorflow.__version__, "keras", keras.__version__)'
        ;;
    torch)
        python_into .torch requirements-torch.txt
        .torch/bin/python -c 'import torch; print("installed: torch", torch.__version__)'
        ;;
    burn)
        cargo build --release --locked --manifest-path burn/Cargo.toml
        ;;
    *)
        echo "Error: no peer is called $peer; there are keras, torch and burn" >&2
        exit 1
        ;;
    esac
done
