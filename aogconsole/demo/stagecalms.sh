#!/bin/bash
# The sample staging command: PROJECT MOUS TICKET. It calibrates nothing, but says what a real run says, to the letter of
# the procedure's transcripts, and between those lines what CASA and rsync say, at the pace of a day told in minutes.
# Beside it lie runs.txt (what a run of each MOUS does) and pace (microseconds for each millisecond of the story).

set -u
LC_ALL=C
export LC_ALL
here=${0%/*}
project=$1 mous=$2 ticket=$3
database=${mous/___/://}
database=${database//_//}

kind='' seconds=0 bytes=0 blocks=()
while read -r name kind seconds bytes listed; do
    read -r -a blocks <<<"$listed"
    case $name in "$mous" | '*') break ;; esac
done < <(grep -v '^#' "$here/runs.txt")

random=$(printf '%s' "$project$mous$ticket${AOG_TOKEN-$$}" | md5sum)
hex=${random%% *}
RANDOM=$((16#${hex:0:4}))
url=http://almascience.eso.org/arcdistribution/preview/$hex
directory=/var/www/html/arcdistribution/preview/$hex
web=$HOME/../web/$hex
workdir=/opsw/work/pipeproc/autopipeline/tmp/WORK$RANDOM

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

# rsync copies one tar of each block; its progress is one line, written over and over.
copy() {
    local block percent done all=0 took=$1
    echo 'receiving incremental file list'
    for block in "${blocks[@]}"; do
        echo "$block.ms.split.cal.tar"
        for percent in 0 9 21 34 46 57 69 81 92 100; do
            done=$((bytes * percent / 100))
            printf '\r %15d %3d%% %6d.%02dMB/s    0:%02d:%02d' \
                "$done" "$percent" $((RANDOM % 30 + 80)) $((RANDOM % 100)) $(((100 - percent) / 40)) $((RANDOM % 60))
            pass $((took / ${#blocks[@]} / 10))
        done
        echo
        all=$((all + bytes))
    done
    echo
    echo "sent 42 bytes  received $((all + 3771062)) bytes  95073848.52 bytes/sec"
    echo "total size is $all  speedup is 1.00"
}

fail() {
    echo "Failed. Please investigate  $directory and possibly remove incomplete data belonging to MOUS $database"
    echo "The working directory $workdir on the EU ARC cluster was not removed."
    exit 1
}

generate() {
    local each=$((seconds * 750 / ${#blocks[@]} / ${#tasks[@]} / (${#windows[@]} + 1)))
    local once=$here/full.$mous
    echo 'None or not all of the needed MSs found: Will regenerate all the MSs ...'
    if [ "$kind" = full ] && ! [ -e "$once" ]; then
        : >"$once"
        calibrate "${blocks[0]}" "$each" 13
        log SEVERE hifa_bandpass "ERROR: not enough free disk space. Need at least $((bytes / 1000000 * 11)) MB."
        log SEVERE hifa_bandpass "ERROR: ${blocks[0]}.ms.split.cal was not created."
        fail
    fi
    for block in "${blocks[@]}"; do calibrate "$block" "$each" "${#tasks[@]}"; done
}

echo "The staging directory will be accessible at $url"
mkdir -p "$web" || fail
echo 'Looking for cluster node with low load ...'
pass 1500
node=arcp$((RANDOM % 2 * 8 + 1))
echo "DATAMACHINE chosen: $node"
echo "Working as arcproc@$node.hq.eso.org ..."
echo "(re-)creating directory $workdir"
[ "$kind" != rhel5 ] || echo 'Old project, using RHEL5 build of CASA.'
pass 500
echo 'Now generating the calibrated MS(s) ...'
echo 'Checking for pre-existing MSs for the following EBs ...'
printf '%s\n' "${blocks[@]}"
if [ "$kind" = reuse ]; then
    for block in "${blocks[@]}"; do
        pass 1000
        echo "MS for $block was found among the already staged MSs."
    done
    echo 'All of the needed MSs were found among the already staged MSs.'
else
    pass 1000
    echo "MS for ${blocks[0]} was not found among the already staged MSs. Will not search further ..."
    generate
fi
echo 'Copying over the generated MSs ...'
copy $((seconds * 200))
for block in "${blocks[@]}"; do echo 'A sample: aogconsole demo calibrates nothing.' >"$web/$block.ms.split.cal.tar"; done
echo 'Deleting redundant logs ...'
pass 500
echo 'Deleting temporary work directory ...'
pass 500
echo
echo "Staging of calibrated MS(s) for $project $mous helpdesk ticket #$ticket completed"
echo "at $url"
echo "Data will be deleted 28 days from $(date -u '+%a %b %d %H:%M:%S UTC %Y')unless you put a .donotremove into the directory."
