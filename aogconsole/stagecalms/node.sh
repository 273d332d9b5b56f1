# A cluster node's side of the staging command: sent whole over SSH to `sh -s`, nothing of it stays on the node.
# Verbs: probe FOLDER, make DIR TOKEN, begin DIR TOKEN HOW CALIBRATOR PROJECT MOUS EB..., state DIR TOKEN,
# follow DIR TOKEN OFFSET, packed DIR TOKEN, end DIR TOKEN, remove DIR TOKEN. HOW is `detached`, or `held`: a process
# that waits for the file `go` starts the worker (a scheduler's job).
# Answers are lines "key value" and a last line "."; that of follow is the log itself.
# Exit status: 0 answered, 1 could not (one sentence on standard error), 2 the words are not ours.
#
# DIR is FOLDER/WORK<number>. DIR/.stagecalms/ is ours: token (whose it is), worker, worker.words, environment, go, lock,
# pid, log, exit, ended, tars/. While it is made and removed a directory is FOLDER/.stagecalms-TOKEN: it is found by its
# token at every moment.

token_name=STAGECALMS_TOKEN

set -u
mask=$(umask)
locale=${LC_ALL-}
umask 077
LC_ALL=C
export LC_ALL

die() {
    printf 'stagecalms: %s\n' "$1" >&2
    exit 1
}

refuse() {
    printf 'stagecalms: %s\n' "$1" >&2
    exit 2
}

say() {
    printf '%s %s\n' "$1" "$2"
}

finish() {
    echo .
    exit 0
}

# -- words: the sender checked them, and here they are checked again ---------------------------------------------

# words.sh is put in here

is_folder() {
    case $1 in /*) ;; *) return 1 ;; esac
    case $1/ in *[!0-9A-Za-z_./+@=,:-]* | */../* | */./* | *//*) return 1 ;; esac
    [ ${#1} -le 1000 ]
}

is_work() {
    is_folder "$1" || return 1
    number=${1##*/}
    case $number in WORK[1-9]*) number=${number#WORK} ;; *) return 1 ;; esac
    is_number "$number" && [ ${#number} -ge 5 ] && [ ${#number} -le 10 ]
}

is_calibrator() {
    case $1 in '' | *[[:cntrl:]]*) return 1 ;; esac
}

is_generation() {
    [ $# -ge 5 ] || return 1
    case $1 in detached | held) ;; *) return 1 ;; esac
    is_calibrator "$2" && is_project "$3" && is_uid "$4" || return 1
    shift 4
    for block in "$@"; do is_uid "$block" || return 1; done
}

# processes.sh is put in here

# -- one working directory ---------------------------------------------------------------------------------------

# Into the folder of working directories. Whatever is below is spoken of without a link on the way.
enter() {
    folder=${work%/*} number=${work##*/} hidden=.stagecalms-$token
    cd "${folder:-/}" 2>/dev/null || die "there is no folder ${folder:-/}"
    dir=$work/.stagecalms
}

# Is $1 a directory of this account, with this token?
has_our_mark() {
    [ -d "$1" ] && ! [ -L "$1" ] && [ -O "$1" ] && [ -d "$1/.stagecalms" ] && ! [ -L "$1/.stagecalms" ] || return 1
    first_line "$1/.stagecalms/token" && [ "$line" = "$token" ]
}

find_work() {
    enter
    has_our_mark "$number" || die "$work is not there, or not of this run: was the node restarted, or its disk emptied?"
}

is_starting() {
    [ -e "$dir/lock" ] && lock_held
}

# $run_state and $run_exit. The worker's own end is what counts: nobody else would pack what it leaves.
judge() {
    run_state=made run_exit=''
    if [ -e "$dir/pid" ] || [ -e "$dir/exit" ]; then
        read_pid
        has_exited || {
            run_state=running
            # it may have ended since
            wrapper_lives || has_exited || run_state=lost
        }
    elif is_starting; then
        run_state=running
        [ ! -e "$dir/pid" ] || judge
    fi
}

# The processes in $members, and those that left the worker's session: the token in their environment tells them.
find_all() {
    read_pid
    find_members
    for path in $(grep -lsxzF -e "$token_name=$token" /proc/[0-9]*/environ); do
        path=${path#/proc/}
        member=${path%/environ}
        case " $members $run_pid " in *" $member "*) continue ;; esac
        if process "$member"; then members="$members $member"; fi
    done
}

write_worker() {
    cat <<'WORKER'
# worker.sh is put in here
WORKER
}

# -- verbs -------------------------------------------------------------------------------------------------------

do_probe() {
    [ -d "$1" ] || die "has no folder $1"
    [ -w "$1" ] && [ -x "$1" ] || die "$1 cannot be written"
    for tool in flock setsid tail tar tee sha256sum mkfifo rsync; do
        command -v "$tool" >/dev/null || die "has no $tool"
    done
    read -r load rest </proc/loadavg || die 'does not tell its load'
    say load "$load"
    say cpus "$(grep -c '^processor' /proc/cpuinfo)"
    kilobytes=$(df -Pk "$1" 2>/dev/null | sed -n '2s/.* \([0-9][0-9]*\)  *-\{0,1\}[0-9][0-9]*% .*/\1/p')
    say free "${kilobytes:+$((kilobytes * 1024))}"
    finish
}

# The name is claimed by mkdir, which fails when it is there; then ours, already marked, takes its place at once.
do_make() {
    enter
    if has_our_mark "$number"; then
        say made already
        finish
    fi
    if has_our_mark "$hidden"; then
        # an earlier try was killed before its last step: only its empty directory goes
        if [ -d "$number" ] && ! [ -L "$number" ] && [ -O "$number" ]; then rmdir "$number" 2>/dev/null; fi
    else
        mkdir -m 0700 -p "$hidden/.stagecalms" 2>/dev/null && printf '%s\n' "$token" 2>/dev/null >"$hidden/.stagecalms/token.new" &&
            mv "$hidden/.stagecalms/token.new" "$hidden/.stagecalms/token" || {
            rm -rf "$hidden"
            die "a directory cannot be made in $folder: is it writable, or its disk full?"
        }
    fi
    sync "$hidden/.stagecalms/token" 2>/dev/null
    if ! mkdir -m 0700 "$number" 2>/dev/null; then
        rm -rf "$hidden"
        [ -e "$number" ] || [ -L "$number" ] || die "a directory cannot be made in $folder: is it writable, or its disk full?"
        say made taken
        finish
    fi
    mv -T "$hidden" "$number" || {
        rmdir "$number"
        rm -rf "$hidden"
        die "the directory $work cannot be made"
    }
    sync . 2>/dev/null
    say made now
    finish
}

cannot_begin() {
    rm -f "$dir/worker" "$dir/worker.words" "$dir/environment" "$dir/go"
    die "the worker cannot be noted in $dir: is its disk full?"
}

do_begin() {
    how=$3
    shift 3
    find_work
    { true >>"$dir/lock"; } 2>/dev/null || cannot_begin
    exec 8>>"$dir/lock"
    flock -w 10 8 || die "another start of the worker in $work is under way"
    [ ! -e "$dir/ended" ] || die "the worker in $work was ended before it began"
    if [ -e "$dir/pid" ] || [ -e "$dir/exit" ] || [ -e "$dir/go" ]; then
        say begun already
        finish
    fi
    { write_worker >"$dir/worker" && printf '%s\n' "$mask" "$locale" "$@" >"$dir/worker.words"; } 2>/dev/null || cannot_begin
    sync "$dir/worker" "$dir/worker.words" 2>/dev/null
    if [ "$how" = held ]; then
        # the calibrator shall find what it finds without a scheduler
        { true >"$dir/environment" && export -p >"$dir/environment" && true >"$dir/go"; } 2>/dev/null || cannot_begin
        say begun held
        finish
    fi
    STAGECALMS_TOKEN=$token setsid sh "$dir/worker" "$work" </dev/null >/dev/null 2>&1 &
    exec 8>&-
    tries=0
    while ! [ -e "$dir/pid" ] && ! [ -e "$dir/exit" ]; do
        is_starting || [ -e "$dir/pid" ] || cannot_begin
        tries=$((tries + 1))
        [ "$tries" -le 200 ] || die 'the worker has not begun within 10 s'
        sleep 0.05
    done
    say begun now
    finish
}

do_state() {
    enter
    if has_our_mark "$number"; then
        judge
        say state "$run_state"
        [ -z "$run_exit" ] || say exit "$run_exit"
        say log "$(log_size)"
    else
        say state absent
    fi
    finish
}

log_size() {
    size=$(wc -c 2>/dev/null <"$dir/log")
    echo "${size:-0}"
}

# Ends when the worker has and its log is told whole. When nobody reads any more GNU tail (since 8.28) ends by itself.
do_follow() {
    find_work
    judge
    [ "$3" -le "$(log_size)" ] || die "the log in $work has only $(log_size) bytes"
    if ! [ -e "$dir/log" ]; then
        [ "$run_state" != made ] || die "no worker was begun in $work"
        [ "$run_state" = running ] || exit 0
        { true >>"$dir/log"; } 2>/dev/null || die "the log in $work cannot be written"
    fi
    watch_worker </dev/null >/dev/null 2>&1 &
    watcher=$!
    tail -c "+$(($3 + 1))" -f -s 0.2 --pid="$watcher" "$dir/log" </dev/null && exit 0
    kill "$watcher" 2>/dev/null
    die 'the log could not be sent'
}

watch_worker() {
    while [ "$run_state" = running ]; do
        sleep 0.2
        judge
    done
}

do_packed() {
    find_work
    for tar in "$dir"/tars/*.tar; do
        first_line "$tar.sha256" && [ -f "$tar" ] || continue
        say tar "${tar##*/} $(wc -c <"$tar") $line"
    done
    finish
}

# No worker begins after the mark `ended`; one that was just beginning is waited for. A mark that cannot be made (a
# full disk) hinders nothing. Where the number is another run's, only what carries our token is ended.
do_end() {
    enter
    if has_our_mark "$number"; then
        { true >"$dir/ended"; } 2>/dev/null
        tries=0
        while [ "$tries" -lt 40 ] && ! [ -e "$dir/pid" ] && is_starting; do
            tries=$((tries + 1))
            sleep 0.05
        done
    else
        dir=$hidden/.stagecalms
    fi
    end_all
    finish
}

# TERM, which the worker survives to tell its end; KILL after 2 s, to the worker itself after 4 s.
end_all() {
    tries=0
    while
        find_all
        [ -n "$members" ] || wrapper_lives
    do
        [ "$tries" -lt 100 ] || die "these processes do not end: $run_pid$members"
        case $tries in
            0) signal_all TERM ;;
            2?) signal_all KILL ;;
            4?) ! wrapper_lives || kill -s KILL "$run_pid" ;;
        esac 2>/dev/null
        tries=$((tries + 1))
        sleep 0.1
    done
}

signal_all() {
    [ "$1" = KILL ] || ! wrapper_lives || kill -s "$1" "$run_pid"
    for member in $members; do kill -s "$1" "$member"; done
}

# A directory of the tree that cannot be written keeps its files: it is opened then.
erase() {
    rm -rf "$1" 2>/dev/null && return 0
    chmod -R u+rwX "$1" 2>/dev/null
    rm -rf "$1" 2>/dev/null || die "$work cannot be removed whole"
}

do_remove() {
    enter
    if has_our_mark "$number"; then
        judge
        [ "$run_state" != running ] || die "the worker in $work still runs"
        # what a calibrator left behind: CASA's servers
        end_all
        ! has_our_mark "$hidden" || erase "$hidden"
        mv -T "$number" "$hidden" || die "$work cannot be removed"
    elif [ -d "$hidden" ] && ! [ -L "$hidden" ] && [ -d "$number" ] && ! [ -L "$number" ] && [ -O "$number" ]; then
        # the making was interrupted between its two steps: only an empty one goes
        rmdir "$number" 2>/dev/null
    fi
    if [ -d "$hidden" ] && ! [ -L "$hidden" ]; then erase "$hidden"; fi
    finish
}

main() {
    verb=${1-}
    [ $# -eq 0 ] || shift
    work=${1-} token=${2-}
    first_line /proc/sys/kernel/random/boot_id
    boot=$line
    case $verb/$# in
        probe/1) is_folder "$1" ;;
        make/2 | state/2 | packed/2 | end/2 | remove/2) is_work "$1" && is_hex32 "$2" ;;
        follow/3) is_work "$1" && is_hex32 "$2" && is_number "$3" ;;
        begin/*) [ $# -ge 7 ] && is_work "$1" && is_hex32 "$2" && (shift 2 && is_generation "$@") ;;
        *) false ;;
    esac || refuse 'not a verb with its words'
    "do_$verb" "$@"
}
