#!/bin/bash
# The sample calibrator: PROJECT MOUS EB... in a working directory. It calibrates nothing, but says what CASA says, at
# the pace of a day told in minutes, and leaves a small directory <EB>.ms.split.cal of each execution block.
# Beside it lie runs.txt (what a run of each MOUS does) and pace (microseconds for each millisecond of the story).

set -u
LC_ALL=C
export LC_ALL
here=${0%/*}
mous=$2
shift 2
blocks=("$@")

kind='' seconds=0 bytes=0
while read -r name kind seconds bytes _; do
    case $name in "$mous" | '*') break ;; esac
done < <(grep -v '^#' "$here/runs.txt")

owed=0
# Let $1 milliseconds of the story pass; short ones are saved up, for each sleep is a process.
pass() {
    local pace
    read -r pace <"$here/pace"
    owed=$((owed + $1 * pace))
    [ "$owed" -lt 50000 ] && return
    printf -v pause '%d.%06d' $((owed / 1000000)) $((owed % 1000000))
    owed=0
    sleep "$pause"
}

# What CASA logs: level, task and text.
log() {
    printf '%(%Y-%m-%d %H:%M:%S)T %s %s %s\n' -1 "$1" "$2" "$3"
}

tasks=(hifa_importdata hifa_flagdata hifa_fluxcalflag hif_rawflagchans hif_refant h_tsyscal hifa_tsysflag
    hifa_antpos hifa_wvrgcalflag hif_lowgainflag hif_setmodels hifa_bandpassflag hifa_bandpass hifa_spwphaseup
    hifa_gfluxscaleflag hifa_gfluxscale hifa_timegaincal hifa_targetflag hif_applycal)
windows=(17 19 21 23)

# One execution block through the pipeline, $2 milliseconds for each line; ends after $3 tasks.
calibrate() {
    local ms=$1.ms line=$2 most=$3 task window antenna stage=0
    for task in "${tasks[@]:0:most}"; do
        stage=$((stage + 1))
        log INFO "$task" "stage $stage of ${#tasks[@]} on $ms"
        pass "$line"
        for window in "${windows[@]}"; do
            antenna=$((RANDOM % 50 + 1))
            log INFO "$task" "$ms spw $window: $((RANDOM % 9000 + 1000)) solutions, $((RANDOM % 40)) flagged, reference DV$antenna"
            pass "$line"
        done
        if [ $((RANDOM % 6)) -eq 0 ]; then
            log WARN "$task" "$ms antenna DA$((RANDOM % 25 + 41)): low gain, $((RANDOM % 20 + 1)) % of its data flagged"
        fi
    done
}

# The directory that is left of an execution block: a hundred-thousandth of what a real one would be.
leave() {
    mkdir -p "$1.ms.split.cal" || exit 1
    printf 'Type = Measurement Set\nSubType =\n\nA sample: aogconsole demo calibrates nothing.\n' >"$1.ms.split.cal/table.info"
    head -c $((bytes / 100000)) /dev/zero >"$1.ms.split.cal/table.f0" || exit 1
}

[ ${#blocks[@]} -gt 0 ] || exit 2
each=$((seconds * 950 / ${#blocks[@]} / ${#tasks[@]} / (${#windows[@]} + 1)))
once=$here/full.$mous
if [ "$kind" = full ] && ! [ -e "$once" ]; then
    : >"$once"
    calibrate "${blocks[0]}" "$each" 13
    log SEVERE hifa_bandpass "ERROR: not enough free disk space. Need at least $((bytes / 1000000 * 11)) MB."
    log SEVERE hifa_bandpass "ERROR: ${blocks[0]}.ms.split.cal was not created."
    exit 1
fi
for block in "${blocks[@]}"; do
    calibrate "$block" "$each" "${#tasks[@]}"
    leave "$block"
done
