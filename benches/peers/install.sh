#!/usr/bin/env bash
# Makes benches/peers/.venv (ignored by git) with Keras on TensorFlow's CPU build, from PyPI and nowhere else.
# PYTHON=python3.11 ./install.sh chooses the interpreter; TensorFlow 2.21 wants Python 3.10 to 3.13.
set -euo pipefail
cd "$(dirname "$0")"
"${PYTHON:-python3}" -m venv .venv
unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL
.venv/bin/python -m pip install --index-url https://pypi.org/simple --requirement requirements.txt
.venv/bin/python -c 'import tensorflow, keras; print("installed: tensorflow", tensorflow.__version__, "keras", keras.__version__)'
