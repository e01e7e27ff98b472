#!/usr/bin/env bash
# Builds the FFmpeg that a release of `mtcae` has inside, from Debian's source package:
# static, under the LGPL alone, without programs, network, devices and filters. It reads
# everything that FFmpeg reads by itself, and AV1 by dav1d; it writes H.264 by OpenH264
# (BSD) and MPEG-4.
#
#     scripts/ffmpeg.sh PREFIX
#
# A PREFIX that has it already is left alone. Then
# `PKG_CONFIG_PATH=PREFIX/lib/pkgconfig PKG_CONFIG_ALL_STATIC=1 cargo build` links it.
# Needs Debian or a relative of it, and root for the packages that it is built with.
set -euo pipefail

[[ $# -eq 1 ]] || { sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
prefix=$(cd "$1" && pwd)
say() { printf 'ffmpeg: %s\n' "$*"; }

# What changes the build changes the stamp.
stamp=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)
if [[ "$(cat "$prefix/stamp" 2>/dev/null)" == "$stamp" ]]; then
    say "$prefix has it"
    exit 0
fi
rm -rf "${prefix:?}"/*

needed=(nasm meson ninja-build libopenh264-dev zlib1g-dev dpkg-dev)
sudo=()
[[ $(id -u) -eq 0 ]] || sudo=(sudo)
missing=()
for package in "${needed[@]}"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The source's index, without changing the machine's own list of sources.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
    [[ -e $file ]] || continue
    case $file in
        *.sources) sed 's/^Types: .*/Types: deb deb-src/' "$file" >"$work/with-source.sources" ;;
        *) sed -n 's/^deb /deb-src /p; /^deb /p' "$file" >"$work/with-source.list" ;;
    esac
done
mkdir -p "$work/lists/partial"
apt=(-o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work" -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
"${sudo[@]}" apt-get "${apt[@]}" update -qq
if [[ ${#missing[@]} -gt 0 ]]; then
    say "apt-get install ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get "${apt[@]}" install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
cd "$work"
apt-get "${apt[@]}" source -qq ffmpeg dav1d >/dev/null
folder() { find "$work" -maxdepth 1 -type d -name "$1-*" | head -1; }
say "building $(basename "$(folder dav1d)")"
# Debian has it as a shared library alone.
meson setup "$work/dav1d" "$(folder dav1d)" --prefix="$prefix" --libdir=lib --default-library=static --buildtype=release \
    -Denable_tools=false -Denable_tests=false >"$work/dav1d.log"
ninja -C "$work/dav1d" install >>"$work/dav1d.log" || { tail -20 "$work/dav1d.log"; exit 1; }
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
source=$(folder ffmpeg)
say "building $(basename "$source")"
cd "$source"
./configure --prefix="$prefix" --pkg-config-flags=--static --disable-shared --enable-static --enable-pic \
    --disable-autodetect --disable-programs --disable-doc --disable-debug --disable-network \
    --disable-avdevice --disable-avfilter --disable-postproc --disable-swresample \
    --disable-encoders --enable-encoder=libopenh264,mpeg4 \
    --disable-muxers --enable-muxer=mp4,mov,matroska \
    --enable-zlib --enable-libdav1d --enable-libopenh264 >"$work/configure.log" ||
    { tail -20 "$work/configure.log"; exit 1; }
grep -q '^License: LGPL' "$work/configure.log" || { say "it would not be LGPL"; exit 1; }
make -j"$(nproc)" >"$work/make.log" 2>&1 || { tail -20 "$work/make.log"; exit 1; }
make install >>"$work/make.log" 2>&1
mkdir -p "$prefix/licences"
cp COPYING.LGPLv2.1 LICENSE.md "$prefix/licences/"
cp /usr/share/doc/libopenh264-dev/copyright "$prefix/licences/openh264"
cp "$(folder dav1d)/COPYING" "$prefix/licences/dav1d"
basename "$source" >"$prefix/version"
echo "$stamp" >"$prefix/stamp"
say "done: $(cat "$prefix/version")"
