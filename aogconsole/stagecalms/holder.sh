#!/bin/sh
# The job by which a cluster's scheduler gives a node to one run of the staging command. Words: FOLDER RUN
#
# RUN is the SHA-256 of the run's token: whoever knows the token can download, and everybody sees a job's words.
# The run makes a working directory FOLDER/WORK... by ssh, with its token, and puts its worker there. This program
# runs the worker, with its own files (pid, log, exit) and the environment of that ssh, and stays until the directory
# is gone: the allocation covers the copying too, and ssh to the node stays allowed where that needs a job.
# It makes no directory and removes none. Of several jobs of one run, one takes the directory and the others leave.
# Exit status: the worker's; 75 without one.

set -u
LC_ALL=C
export LC_ALL
made=${AOG_MADE:-600}         # seconds for the working directory to be made
begun=${AOG_BEGUN:-7200}      # ... for the worker to be put there
fetched=${AOG_FETCHED:-86400} # ... for what it made to be fetched

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

# The working directory of our run, in $dir: a real directory of our own account.
find_directory() {
    for mark in "$folder"/WORK*/.stagecalms/token; do
        dir=${mark%/.stagecalms/token}
        [ -O "$mark" ] && [ -O "$dir" ] && ! [ -L "$dir" ] && ! [ -L "$dir/.stagecalms" ] || continue
        IFS= read -r line <"$mark" || [ -n "$line" ] || continue
        sum=$(printf '%s' "$line" | sha256sum)
        [ "${sum%% *}" != "$run" ] || return 0
    done 2>/dev/null
    return 1
}

is_gone() {
    ! [ -d "$dir/.stagecalms" ]
}

worker_or_gone() {
    is_gone || [ -e "$dir/.stagecalms/worker" ]
}

# The worker leads a session, as it does without a scheduler: whoever ends it finds its processes by that.
run_worker() {
    child=''
    trap '[ -z "$child" ] || kill -s TERM -- "-$child" 2>/dev/null' TERM
    (
        cd "$dir" || exit 75
        unset LC_ALL AOG_MADE AOG_BEGUN AOG_FETCHED
        [ ! -r .stagecalms/environment ] || . ./.stagecalms/environment
        exec setsid sh .stagecalms/worker
    ) </dev/null >/dev/null 2>&1 &
    child=$!
    while :; do
        wait "$child"
        status=$?
        kill -0 "$child" 2>/dev/null || break
    done
}

main() {
    folder=$1 run=$2
    case $folder in /*) ;; *) exit 75 ;; esac
    within "$made" find_directory || exit 75
    within "$begun" worker_or_gone || exit 75
    mkdir "$dir/.stagecalms/held" 2>/dev/null || exit 75
    run_worker
    # what failed is not fetched
    [ "$status" -ne 0 ] || within "$fetched" is_gone
    exit "$status"
}

main "$@"
