#!/bin/sh
# The job by which a cluster's scheduler gives a node to one run of the staging command. Words: FOLDER RUN
#
# RUN is the SHA-256 of the run's token: whoever knows the token can download, and everybody sees a job's words.
# The run makes a working directory FOLDER/WORK... by ssh and puts its worker there (node.sh, `begin ... held`). This
# program runs the worker with the environment of that ssh, and stays until the directory is gone: the allocation
# covers the copying too, and ssh to the node stays allowed where that needs a job. It makes and removes nothing.
# Exit status: that in the directory; 75 when there was nothing to do, or another job did it.

set -u
LC_ALL=C
export LC_ALL
made=${AOG_MADE:-600}         # seconds for the working directory to be made
begun=${AOG_BEGUN:-7200}      # ... for the worker to be put there
fetched=${AOG_FETCHED:-86400} # ... for what it made to be fetched
heard=${AOG_HEARD:-600}       # ... for its failure to be heard of
removed=${AOG_REMOVED:-15}    # ... for a directory that was ended to be removed

# Run $2... every half second until it succeeds; 1 when $1 seconds are over.
within() {
    rounds=$(($1 * 2))
    shift
    until "$@"; do
        [ "$rounds" -gt 0 ] || return 1
        rounds=$((rounds - 1))
        sleep 0.5
    done
}

# The working directory of our run, in $work, with its $token: a real directory of our own account.
find_directory() {
    for mark in "$folder"/WORK*/.stagecalms/token; do
        work=${mark%/.stagecalms/token}
        [ -O "$mark" ] && [ -O "$work" ] && ! [ -L "$work" ] && ! [ -L "$work/.stagecalms" ] || continue
        IFS= read -r token <"$mark" || continue
        sum=$(printf '%s' "$token" | sha256sum)
        [ "${sum%% *}" != "$run" ] || return 0
    done 2>/dev/null
    return 1
}

is_gone() {
    ! [ -d "$dir" ]
}

worker_or_gone() {
    [ -e "$dir/go" ] || [ -e "$dir/ended" ] || is_gone
}

ended_or_gone() {
    [ -e "$dir/ended" ] || is_gone
}

has_begun() {
    [ -e "$dir/pid" ] || [ -e "$dir/exit" ] || [ -e "$dir/ended" ] || ! kill -0 "$worker" 2>/dev/null
}

# With the lock held until the worker has noted itself: whoever begins or ends it meanwhile waits for that.
run_worker() {
    { true >>"$dir/lock"; } 2>/dev/null || exit 75
    exec 8>>"$dir/lock"
    flock -w 60 8 || exit 75
    if [ -e "$dir/pid" ] || [ -e "$dir/exit" ] || [ -e "$dir/ended" ] || ! [ -e "$dir/go" ]; then exit 75; fi
    trap 'told=yes; kill -s TERM "$worker" 2>/dev/null' TERM
    (
        trap - TERM
        unset LC_ALL AOG_MADE AOG_BEGUN AOG_FETCHED AOG_HEARD AOG_REMOVED
        # shellcheck disable=SC1091  # written by node.sh
        if [ -r "$dir/environment" ]; then . "$dir/environment"; fi
        STAGECALMS_TOKEN=$token
        export STAGECALMS_TOKEN
        exec setsid sh "$dir/worker" "$work"
    ) </dev/null >/dev/null 2>&1 8>&- &
    worker=$!
    within 30 has_begun
    exec 8>&-
    while kill -0 "$worker" 2>/dev/null; do wait "$worker"; done
    trap - TERM
    [ "$told" = no ] || exit 75
}

main() {
    folder=$1 run=$2 worker='' told=no
    case $folder in /*) ;; *) exit 75 ;; esac
    within "$made" find_directory || exit 75
    dir=$work/.stagecalms
    within "$begun" worker_or_gone || exit 75
    status=75
    if ! ended_or_gone; then
        run_worker
        read -r status 2>/dev/null <"$dir/exit" || status=1
    fi
    if [ "$status" = 0 ]; then within "$fetched" ended_or_gone; else within "$heard" ended_or_gone; fi
    within "$removed" is_gone
    exit "$status"
}

main "$@"
