#!/usr/bin/env bash
# Builds what people download: one program and one Python wheel, each with FFmpeg and the
# default model inside and its licences, and nothing that they need but the C library.
# Checks the program in a bare Debian.
#
#     scripts/dist.sh [--no-check]      into target/dist
#
# FFmpeg is built once and kept in target/dist/ffmpeg (MTCAE_FFMPEG names another place).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ $# -eq 0 || ( $# -eq 1 && $1 == --no-check ) ]] || { sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; }
[[ "$(uname -sm)" == "Linux x86_64" ]] || { echo "dist: this is built on Linux on x86-64" >&2; exit 1; }
say() { printf 'dist: %s\n' "$*"; }

out=$PWD/target/dist
ffmpeg=${MTCAE_FFMPEG:-$out/ffmpeg}
scripts/setup.sh python
scripts/ffmpeg.sh "$ffmpeg"

# A folder that has these as archives alone, so that the linker takes them.
mkdir -p "$out/lib"
for library in libstdc++.a libopenh264.a libz.a; do
    ln -sf "$(c++ -print-file-name=$library)" "$out/lib/$library"
done
export PKG_CONFIG_PATH=$ffmpeg/lib/pkgconfig PKG_CONFIG_ALL_STATIC=1 PKG_CONFIG_ALLOW_SYSTEM_LIBS=0
export RUSTFLAGS="-L native=$out/lib ${RUSTFLAGS:-}" CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_INCREMENTAL=0
export CARGO_TARGET_DIR=$out/build
# Together, so that both have the same libraries.
export MTCAE_BUILD="-p mtcae-cli -p mtcae-python --features mtcae-cli/default-model,mtcae-cli/static-ffmpeg,mtcae-python/static-ffmpeg"
# shellcheck disable=SC2086 # Flags.
cargo build --release --locked $MTCAE_BUILD

version=$(cargo metadata --format-version 1 --no-deps | python3 -c \
    'import json,sys; print(next(p["version"] for p in json.load(sys.stdin)["packages"] if p["name"] == "mtcae-cli"))')
name=mtcae-$version-linux-x86_64
package=$out/$name
rm -rf "$package"
mkdir -p "$package"
cp "$out/build/release/mtcae" LICENSE "$package/"
scripts/notices.py "$ffmpeg" >"$package/NOTICES.txt"

# Nothing but the C library, and of that nothing newer than Debian 12 has.
needed=$(objdump -p "$package/mtcae" | awk '/NEEDED/ { print $2 }' | sort | tr '\n' ' ')
for library in $needed; do
    case $library in
        libc.so.6 | libm.so.6 | libgcc_s.so.1 | ld-linux-x86-64.so.2) ;;
        *) echo "dist: the program needs $library" >&2; exit 1 ;;
    esac
done
glibc=$(objdump -T "$package/mtcae" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
say "needs $needed, $glibc or newer"
cat >"$package/README.txt" <<TEXT
mtcae $version: facial expressions, face boxes and landmarks in videos.

    ./mtcae infer video.mp4
    ./mtcae infer videos/ --out results --annotate png,mp4
    ./mtcae --help

Everything is in the one file, and nothing leaves your machine. It needs Linux on x86-64
with ${glibc/_/ } or newer. What it says is what faces show, not what people feel:
./mtcae card has what the model inside is worth, and what it must not be used for.
LICENSE is its licence, NOTICES.txt are those of what it has inside.
TEXT
tar -C "$out" -cJf "$out/$name.tar.xz" "$name"
bytes=$(stat -c %s "$out/$name.tar.xz")
say "$out/$name.tar.xz: $((bytes / 1000000)) MB, the program $(($(stat -c %s "$package/mtcae") / 1000000)) MB"
[[ $bytes -le 80000000 ]] || { echo "dist: larger than 80 MB" >&2; exit 1; }

# The wheel: what it links beside the C library would be refused.
notices=crates/mtcae-python/python/mtcae/NOTICES.txt
trap 'rm -f "$notices"' EXIT
cp "$package/NOTICES.txt" "$notices"
wheel=$(WHEELS=$out WHEEL_FLAGS="--features static-ffmpeg --compatibility manylinux_2_35" scripts/wheel.sh)
say "$wheel: $(($(stat -c %s "$wheel") / 1000000)) MB"
[[ "${1:-}" == --no-check ]] && exit

# A Debian with nothing in it, and no network.
root=$out/root
if [[ ! -e $root/complete ]]; then
    command -v debootstrap >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq debootstrap >/dev/null
    rm -rf "$root"
    debootstrap --variant=minbase bookworm "$root" >"$out/debootstrap.log" || { tail -5 "$out/debootstrap.log"; exit 1; }
    touch "$root/complete"
fi
rm -rf "$root/work"
mkdir -p "$root/work/clips"
cp "$out/$name.tar.xz" "$root/work/"
cp fixtures/demo/*.mp4 "$root/work/clips/"
# Debian's smallest has no xz: unpacked from outside.
start=$(date +%s.%N)
tar -C "$root/work" -xJf "$root/work/$name.tar.xz"
inside() { unshare --net chroot "$root" env -i PATH=/usr/bin:/bin HOME=/root "/work/$name/mtcae" "$@"; }
inside infer /work/clips/portrait.mp4 | tee "$out/said.txt"
took=$(echo "$(date +%s.%N) - $start" | bc)
grep -q '^expression: happy' "$out/said.txt"
say "unpacked and the first answer given in $took s"
[[ $(echo "$took < 15" | bc) == 1 ]]
inside infer /work/clips --out /work/results --annotate png,mp4 --quiet
test -s "$root/work/results/scanned.annotated.mp4" -a -s "$root/work/results/portrait.json"
inside card | grep -q 'AI Act'
inside --version
