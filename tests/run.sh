#!/usr/bin/env bash
# Runs all tests. Makes sure first that there is a Vulkan driver to run the shaders on: on Debian and Ubuntu it installs the
# software one (mesa-vulkan-drivers) where no adapter is found; elsewhere it says what to install.
# WGRADCAM_NO_GPU=1 leaves out what needs an adapter; WGRADCAM_DEVICE=NAME|INDEX picks one.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${WGRADCAM_NO_GPU:-0}" != 1 ]; then
    # What the tests need anyway; building the program alone would compile wgpu twice, with other features.
    cargo test --no-run
    has_adapter() { ./target/debug/wgradcam devices --json 2>/dev/null | grep -q '"index"'; }
    if ! has_adapter; then
        if command -v apt-get >/dev/null; then
            echo "No Vulkan adapter was found: installing mesa-vulkan-drivers (a software driver)."
            root=""
            [ "$(id -u)" = 0 ] || root=sudo
            $root apt-get update -qq
            $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mesa-vulkan-drivers libvulkan1 >/dev/null
        fi
        if ! has_adapter; then
            echo "No Vulkan, Metal or DX12 adapter was found. Install your GPU's driver, or a software Vulkan driver:" >&2
            echo "  Fedora: dnf install mesa-vulkan-drivers   Arch: pacman -S vulkan-swrast   Alpine: apk add mesa-vulkan-swrast" >&2
            echo "or set WGRADCAM_NO_GPU=1 to leave out the tests that need one." >&2
            exit 1
        fi
    fi
fi

cargo test "$@"
