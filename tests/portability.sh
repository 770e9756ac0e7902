#!/usr/bin/env bash
# Does it hold on what this machine is not? One command that fetches what it needs into target/portability (ignored by git), runs
#   1. every shader through naga's writers (SPIR-V, MSL, HLSL, GLSL) and, for its SPIR-V, Khronos' spirv-val;
#   2. every shader through Tint, the WGSL compiler of Chrome, in Dawn for node (npm's `webgpu`);
#   3. kernels, golden set, loop limits and trainings on a second Vulkan driver, SwiftShader (in Debian's chromium-common);
#   4. the same on the first adapter held to WebGPU's default limits and to wgpu's downlevel limits,
# and says at its end what was covered and what was not. Exit code 1 if anything failed; with --strict also if anything was left out.
set -uo pipefail
cd "$(dirname "$0")/.."
strict=no
[ "${1:-}" = --strict ] && strict=yes
tools=$PWD/target/portability
mkdir -p "$tools"
covered=() left_out=() failed=()

# run NAME COMMAND...: keeps the score.
run() {
    local name=$1
    shift
    echo "== $name"
    if "$@"; then covered+=("$name"); else failed+=("$name"); fi
}
skip() {
    echo "== SKIPPED: $1"
    left_out+=("$1")
}

# The driver's library out of a package of a distribution, without installing a browser.
fetch_swiftshader() {
    [ -f "$tools/libvk_swiftshader.so" ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return
    echo "fetching SwiftShader"
    (
        cd "$tools" && apt-get download -qq chromium-common && dpkg-deb -x chromium-common_*.deb chromium &&
            cp chromium/usr/lib/chromium/libvk_swiftshader.so . && rm -rf chromium chromium-common_*.deb
    )
}
fetch_dawn() {
    [ -d "$tools/node_modules/webgpu" ] && return
    command -v npm >/dev/null || return
    echo "fetching Dawn"
    npm install --prefix "$tools" --no-audit --no-fund --ignore-scripts --silent webgpu@0.6.2
}

if ! cargo test --no-run --quiet; then
    echo "The tests do not build." >&2
    exit 1
fi
wgradcam=$PWD/target/debug/wgradcam
fetch_swiftshader
fetch_dawn
icd=$tools/swiftshader.json
if [ -f "$tools/libvk_swiftshader.so" ]; then
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' \
        "$tools/libvk_swiftshader.so" >"$icd"
fi
# The same variable under its old and its new name.
swiftshader=(env "VK_ICD_FILENAMES=$icd" "VK_DRIVER_FILES=$icd")

if command -v spirv-val >/dev/null; then
    run "naga: SPIR-V (by spirv-val), MSL, HLSL and GLSL of every shader" cargo test --quiet --test shaders
else
    run "naga: SPIR-V, MSL, HLSL and GLSL of every shader" cargo test --quiet --test shaders
    skip "spirv-val is not installed (Debian: spirv-tools)"
fi

shaders=$tools/wgsl
rm -rf "$tools/wgsl"
run "shaders printed" "$wgradcam" verify --print-shaders "$shaders"
if [ ! -d "$tools/node_modules/webgpu" ]; then
    skip "Tint: Dawn could not be fetched (it needs npm)"
elif [ -f "$icd" ]; then
    run "Tint: every shader, on SwiftShader" "${swiftshader[@]}" node tests/tint.mjs "$shaders" "$tools/node_modules"
else
    run "Tint: every shader, on this machine's driver" node tests/tint.mjs "$shaders" "$tools/node_modules"
fi

tests=(--test kernels --test golden --test loops --test limits --test training)
if [ -f "$icd" ]; then
    run "SwiftShader: kernels, golden set, loops, limits, trainings" "${swiftshader[@]}" cargo test --quiet "${tests[@]}"
else
    skip "SwiftShader: it could not be fetched (it needs apt-get and dpkg-deb)"
fi

if [ "${WGRADCAM_NO_GPU:-0}" = 1 ] || ! "$wgradcam" devices --json 2>/dev/null | grep -q '"index"'; then
    skip "the limits: there is no adapter"
else
    for floor in default downlevel; do
        run "$floor limits: kernels, golden set, trainings" \
            env "WGRADCAM_LIMITS=$floor" cargo test --quiet --test kernels --test golden --test training
    done
fi

echo
for name in "${covered[@]}"; do echo "covered:  $name"; done
for name in "${left_out[@]}"; do echo "left out: $name"; done
for name in "${failed[@]}"; do echo "FAILED:   $name"; done
[ ${#failed[@]} = 0 ] && { [ $strict = no ] || [ ${#left_out[@]} = 0 ]; }
