#!/usr/bin/env bash
# nvidia-smi of the pretend GPU (scripts/pretend_gpu.sh): says what MTCAE_PRETEND_GPU says.
set -euo pipefail
name='NVIDIA H200 (pretended)' capability=9.0 memory=141G driver=13000 none=''
IFS=, read -ra parts <<<"${MTCAE_PRETEND_GPU:-}"
for part in ${parts[@]+"${parts[@]}"}; do
    case $part in
        name=*) name=${part#*=} ;;
        capability=*) capability=${part#*=} ;;
        memory=*) memory=${part#*=} ;;
        driver=*) driver=${part#*=} ;;
        none*) none=1 ;;
    esac
done
if [[ -n $none ]]; then
    echo 'No devices were found'
    exit 6
fi

mebibytes() {
    case $1 in
        *G) echo $((${1%G} * 1024)) ;;
        *M) echo "${1%M}" ;;
        *K) echo $((${1%K} / 1024)) ;;
        *) echo $(($1 / 1048576)) ;;
    esac
}

query='' units=1 header=1
while [[ $# -gt 0 ]]; do
    case $1 in
        --query-gpu=*) query=${1#*=} ;;
        --format=*)
            if [[ $1 == *nounits* ]]; then units=''; fi
            if [[ $1 == *noheader* ]]; then header=''; fi
            ;;
        -i) shift ;;
        -L)
            echo "GPU 0: $name (UUID: GPU-00000000-0000-0000-0000-000000000000)"
            exit
            ;;
    esac
    shift
done
if [[ -z $query ]]; then
    echo "NVIDIA-SMI (pretended)  GPU 0: $name  CUDA $((driver / 1000)).$((driver % 1000 / 10))"
    exit
fi

with_unit() { echo "$1${units:+ $2}"; }
value() {
    case $1 in
        name | gpu_name) echo "$name" ;;
        index) echo 0 ;;
        # Drivers 580 and later are of CUDA 13, 525 and later of 12.
        driver_version) if [[ $driver -ge 13000 ]]; then echo 580.65.06; else echo 550.54.14; fi ;;
        compute_cap) echo "$capability" ;;
        memory.total | memory.free) with_unit "$(mebibytes "$memory")" MiB ;;
        memory.used) with_unit 0 MiB ;;
        clocks.sm | clocks.max.sm | clocks.current.sm) with_unit 1980 MHz ;;
        clocks.mem | clocks.max.mem) with_unit 3201 MHz ;;
        power.draw | power.draw.instant) with_unit 120.00 W ;;
        power.limit | enforced.power.limit) with_unit 700.00 W ;;
        temperature.gpu) echo 35 ;;
        utilization.gpu) with_unit 0 % ;;
        clocks_event_reasons.active | clocks_throttle_reasons.active) echo 0x0000000000000000 ;;
        clocks_event_reasons.* | clocks_throttle_reasons.*) echo 'Not Active' ;;
        mig.mode.current) echo Disabled ;;
        *) echo '[N/A]' ;;
    esac
}
IFS=, read -ra fields <<<"${query// /}"
join() { paste -sd, | sed 's/,/, /g'; }
if [[ -n $header ]]; then printf '%s\n' "${fields[@]}" | join; fi
for field in "${fields[@]}"; do value "$field"; done | join
