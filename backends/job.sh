#!/bin/sh
# One launched workflow, begun once however often and wherever this runs. Words: local|slurm FOLDER COMMAND...
#
# FOLDER is made by the launcher, never here: when it is gone, the workflow is over and forgotten. It holds
#   started  who began it: host, boot id, pid, Slurm's job. Made by link: of several that try, one begins
#   lock     held by this program and by the workflow, while one of them lives (local)
#   alive    touched every few seconds while the workflow lives (slurm)
#   log      the workflow's output
#   exit     its exit status; made by rename: it is whole, or not there
# Standard output answers the launcher until the workflow begins: `started`, `already`, or a sentence that says why not.

set -u
mask=$(umask)
umask 077
beat=${AOG_BEAT:-10}

# In a subshell: when nobody reads the answer any more, only that is ended.
answer() {
    (printf '%s\n' "$1") 2>/dev/null
}

refuse() {
    answer "$1"
    exit 1
}

# Another began it, or this same job before Slurm ran it again. The status is not 0: Slurm shall not call it complete.
leave() {
    answer already
    exit 75
}

# May $1 be opened for writing? A failed `exec` would end the shell without a word.
writable() {
    { true >>"$1"; } 2>/dev/null
}

# Who only looks holds the lock for a moment.
take_lock() {
    writable lock || refuse "the folder $dir cannot be written"
    exec 9>>lock
    tries=0
    until flock -n 9; do
        [ ! -e started ] || leave
        tries=$((tries + 1))
        [ "$tries" -le 100 ] || refuse "the lock in $dir is held by another start"
        sleep 0.05
    done
}

# The mark is whole and on the disk before the workflow begins; without it the workflow was never begun.
# On a network file system a link may be made although it is reported as failed: what counts is whose it is.
begin() {
    [ ! -e started ] || leave
    mine=started.$(uname -n).$$
    { printf '%s\n' "$(uname -n)" "$boot" "$$" "$own_job" >"$mine"; } 2>/dev/null || refuse "the folder $dir cannot be written"
    sync "$mine" 2>/dev/null
    ln "$mine" started 2>/dev/null
    if [ "$mine" -ef started ]; then won=yes; else won=no; fi
    rm -f "$mine"
    if [ "$won" = no ]; then
        [ ! -e started ] || leave
        refuse "the start cannot be noted in $dir"
    fi
    sync . 2>/dev/null
}

# Until the workflow ends, also when this program was killed before.
show_alive() {
    nap=''
    trap 'kill "$nap" 2>/dev/null; exit' TERM
    while kill -0 "$child" 2>/dev/null; do
        echo >alive
        sleep "$beat" &
        nap=$!
        wait "$nap"
    done
}

# The exit status in $status. TERM is handed on, and the status still recorded.
run() {
    told='' child=''
    trap 'told=yes; [ -z "$child" ] || kill -s TERM "$child" 2>/dev/null' TERM
    (umask "$mask" && exec "$@") </dev/null >>log 2>&1 &
    child=$!
    if [ "$kind" = slurm ]; then
        show_alive </dev/null >/dev/null 2>&1 &
        beater=$!
    fi
    while :; do
        told=''
        wait "$child"
        status=$?
        [ -n "$told" ] && kill -0 "$child" 2>/dev/null || break
    done
    [ "$kind" = local ] || kill "$beater" 2>/dev/null
}

main() {
    kind=$1 dir=$2
    shift 2
    own_job='' boot=''
    [ "$kind" = local ] || own_job=${SLURM_JOB_ID-}
    read -r boot </proc/sys/kernel/random/boot_id
    cd "$dir" 2>/dev/null || refuse "the folder $dir is not there"
    [ "$kind" = slurm ] || take_lock
    begin
    answer started
    exec >/dev/null 2>&1
    run "$@"
    sync log 2>/dev/null
    printf '%s\n' "$status" >exit.tmp && sync exit.tmp && mv exit.tmp exit
    sync . 2>/dev/null
    exit "$status"
}

main "$@"
