#!/usr/bin/env bash
# Installs what the build needs and this machine lacks: FFmpeg's development
# files, libclang with its headers (for the bindings to FFmpeg), pkg-config and a
# C compiler. With `guards`, valgrind as well, which `make guards` counts
# instructions with; with `python`, Python and its venv, which the checks by other programs
# are made with; with `mpi`, Open MPI with its headers. Says what it does; does nothing when all is there.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

have_ffmpeg() { pkg-config --exists libavcodec libavformat libavutil libswscale 2>/dev/null; }
have_libclang() {
    [[ -n "${LIBCLANG_PATH:-}" || "$(uname -s)" == Darwin ]] && return
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib*/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*-linux-gnu/libclang*.so*' >/dev/null
}
# Clang's own stddef.h and friends, which libclang does not bring along.
have_clang_headers() {
    [[ -n "${LIBCLANG_PATH:-}" || "$(uname -s)" == Darwin ]] && return
    compgen -G '/usr/lib/llvm-*/lib/clang/*/include/stddef.h' >/dev/null ||
        compgen -G '/usr/lib*/clang/*/include/stddef.h' >/dev/null
}

asked_for() { [[ " $asked " == *" $1 "* ]]; }
asked=$*

missing=()
command -v pkg-config >/dev/null || missing+=(pkg-config)
command -v cc >/dev/null || missing+=(cc)
have_ffmpeg || missing+=(ffmpeg)
have_libclang && have_clang_headers || missing+=(libclang)
if asked_for python && ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    missing+=(python)
fi
if asked_for mpi && ! { command -v mpirun && command -v mpicc; } >/dev/null; then
    missing+=(mpi)
fi
if asked_for guards && ! command -v valgrind >/dev/null; then
    if [[ "$(uname -sm)" == "Linux x86_64" ]]; then
        missing+=(valgrind)
    else
        say "no valgrind: instructions are counted on Linux on x86-64 alone, and skipped here"
    fi
fi

if ! command -v cargo >/dev/null; then
    fail "cargo is not installed; get Rust 1.89 or newer with rustup (https://rustup.rs)"
fi
if [[ ${#missing[@]} -eq 0 ]]; then
    say "everything is there"
    exit 0
fi
say "missing: ${missing[*]}"

sudo=()
if [[ $(id -u) -ne 0 ]] && ! command -v brew >/dev/null; then
    command -v sudo >/dev/null || fail "installing needs root, and there is no sudo"
    sudo=(sudo)
fi

packages=()
if command -v apt-get >/dev/null; then
    for m in "${missing[@]}"; do
        case $m in
            pkg-config) packages+=(pkg-config) ;;
            cc) packages+=(build-essential) ;;
            ffmpeg) packages+=(libavcodec-dev libavformat-dev libavutil-dev libswscale-dev) ;;
            libclang) packages+=(libclang-dev) ;;
            valgrind) packages+=(valgrind) ;;
            python) packages+=(python3 python3-venv) ;;
            mpi) packages+=(libopenmpi-dev openmpi-bin) ;;
        esac
    done
    say "apt-get install ${packages[*]}"
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
elif command -v dnf >/dev/null; then
    for m in "${missing[@]}"; do
        case $m in
            pkg-config) packages+=(pkgconf-pkg-config) ;;
            cc) packages+=(gcc) ;;
            ffmpeg) packages+=(ffmpeg-free-devel) ;;
            libclang) packages+=(clang-devel) ;;
            valgrind) packages+=(valgrind) ;;
            python) packages+=(python3) ;;
            mpi) packages+=(openmpi-devel) ;;
        esac
    done
    say "dnf install ${packages[*]}"
    "${sudo[@]}" dnf install -y -q "${packages[@]}"
elif command -v brew >/dev/null; then
    for m in "${missing[@]}"; do
        case $m in
            pkg-config) packages+=(pkgconf) ;;
            cc) fail "no C compiler; run: xcode-select --install" ;;
            ffmpeg) packages+=(ffmpeg) ;;
            libclang) packages+=(llvm) ;;
            python) packages+=(python) ;;
        esac
    done
    say "brew install ${packages[*]}"
    brew install --quiet "${packages[@]}"
else
    fail "neither apt-get, dnf nor brew is here; install by hand: ${missing[*]} (FFmpeg 5.1 or newer with headers)"
fi

have_ffmpeg || fail "FFmpeg's development files are still not found by pkg-config"
say "done"
