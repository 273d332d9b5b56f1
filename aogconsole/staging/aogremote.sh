#!/bin/sh
# aogremote: the staging host's side of aogconsole. Behind a forced command, one line for each operator's key:
#   restrict,command="aogremote --operator NAME" ssh-ed25519 ...
# Verbs: hello [JOURNAL], start TOKEN PROJECT MOUS TICKET, status [TOKEN], log TOKEN OFFSET, list, stop TOKEN,
# staged, keep DIR [off]. Answers are lines "key value" below "aogremote 1"; the answer of log is the log itself.
# Exit status: 0 answered, 1 could not (one sentence on standard error), 2 the words are not ours.
#
# ROOT/TOKEN/ is one run: wrapper, lock (held by it), pid (pid, start time, boot id, slot), log, exit, stopped.
# ROOT/slot.N is locked while run N, or any process it left behind, lives. ROOT/lock serialises counting and starting.

operator=''
root='.aogconsole'
slots=2
command='stagecalms.sh'
web_root=''

token_name=AOG_TOKEN

set -u
mask=$(umask)
locale=${LC_ALL-}
umask 077
LC_ALL=C
export LC_ALL

die() {
    printf 'aogremote: %s\n' "$1" >&2
    exit 1
}

refuse() {
    printf 'aogremote: %s\n' "$1" >&2
    exit 2
}

# May $1 be opened for writing? A failed `exec` would end the shell with a status that means something else.
writable() {
    { true >>"$1"; } 2>/dev/null
}

say() {
    printf '%s %s\n' "$1" "$2"
}

# -- words: the client checked them, and here they are checked again ---------------------------------------------

# words.sh is put in here

is_ticket() {
    is_number "$1" && [ "$1" != 0 ] && [ ${#1} -le 12 ]
}

is_name() {
    case $1 in '' | -* | *[!0-9A-Za-z_.@-]*) return 1 ;; esac
    [ ${#1} -le 64 ]
}

# processes.sh is put in here

# $run_state, $run_exit and $run_why of $token.
judge() {
    dir=$root/$token run_state=absent run_exit='' run_why='' run_pid='' run_boot='' run_slot=''
    if [ -e "$dir/pid" ] || [ -e "$dir/exit" ]; then
        read_pid
        run_state=running
        has_exited && return
        if [ "$run_boot" != "$boot" ]; then
            run_state=lost run_why=reboot
        elif ! run_lives; then
            run_state=lost run_why=killed
            # the wrapper may have ended since
            has_exited || return 0
        fi
    elif [ -e "$dir/lock" ] && lock_held; then
        run_state=starting
    fi
}

tell_run() {
    judge
    say run "$token"
    say state "$run_state"
    [ "$run_state" = absent ] && return
    [ -z "$run_exit" ] || say exit "$run_exit"
    if [ -n "$run_exit" ] && ended=$(stat -c %Y "$dir/exit" 2>/dev/null); then
        ago=$(($(date +%s) - ended))
        # a clock that was set back since
        [ "$ago" -ge 0 ] || ago=0
        say ended_ago "$ago"
    fi
    [ -z "$run_why" ] || say why "$run_why"
    [ -z "$run_slot" ] || say slot "$run_slot"
    [ -z "$run_pid" ] || say pid "$run_pid"
    [ -z "$run_boot" ] || say boot "$run_boot"
    size=$(wc -c 2>/dev/null <"$dir/log")
    say log "${size:-0}"
    if first_line "$dir/stopped"; then say stopped "$line"; fi
}

# All runs, or (`live`) those that have not ended: folders stay, so over the years nearly all have.
tell_runs() {
    for dir in "$root"/*/; do
        dir=${dir%/}
        token=${dir##*/}
        if [ "${1-}" = live ] && [ -e "$dir/exit" ]; then continue; fi
        if is_hex32 "$token"; then tell_run; fi
    done
}

# -- runs started by hand ----------------------------------------------------------------------------------------

# Is process $1 the staging command: by its program, or as the script of an interpreter?
runs_command() {
    tr '\n\0' ' \n' 2>/dev/null <"/proc/$1/cmdline" | (
        IFS= read -r word || exit 1
        program=${word##*/}
        [ "$program" = "$name" ] && exit 0
        case ${program#-} in
            sh | ash | bash | dash | ksh* | mksh | zsh | csh | tcsh) kind=shell ;;
            python*) kind=python ;;
            perl*) kind=perl ;;
            *) exit 1 ;;
        esac
        while IFS= read -r word; do
            case $kind:$word in
                *:--) IFS= read -r word && [ "${word##*/}" = "$name" ] && exit 0 || exit 1 ;;
                shell:--rcfile | shell:--init-file | python:-[WX] | perl:-I) IFS= read -r word ;;
                *:--* | perl:-[CDIMVdmx]*) ;;
                shell:-*[cs]* | python:-*[cm] | perl:-*[eE]*) exit 1 ;;
                shell:[-+]*[oO]) IFS= read -r word ;;
                *:[-+]?*) ;;
                *) [ "${word##*/}" = "$name" ] && exit 0 || exit 1 ;;
            esac
        done
        exit 1
    )
}

# Is an ancestor of process $1 among $matches?
below_match() {
    parent=$1
    while process "$parent" && [ "$parent" -gt 1 ]; do
        case $matches in *" $parent "*) return 0 ;; esac
    done
    return 1
}

# Is process $1, or the leader of its session, of one of our runs?
in_our_run() {
    process "$1" || return 0
    for carrier in "$1" "$session"; do
        carried=$(tr '\n\0' ' \n' 2>/dev/null <"/proc/$carrier/environ" | sed -n 's/^AOG_TOKEN=//p')
        is_hex32 "$carried" && [ -d "$root/$carried" ] && return 0
    done
    return 1
}

# A run by hand of a staging command that takes a slot itself is counted by its slot.
has_slot_open() {
    for descriptor in "/proc/$1/fd"/*; do
        for slot_file in "$root"/slot.*; do
            [ "$descriptor" -ef "$slot_file" ] && return 0
        done
    done
    return 1
}

# $foreign: pids of the topmost staging commands of this account outside our runs; $foreign_count of them,
# $foreign_slots of which hold a slot.
find_foreign() {
    foreign='' foreign_count=0 foreign_slots=0 matches=' ' name=${command##*/}
    for path in $(grep -lasF -e "$name" /proc/[0-9]*/cmdline); do
        path=${path#/proc/}
        candidate=${path%/cmdline}
        [ -O "/proc/$candidate" ] && runs_command "$candidate" && matches="$matches$candidate "
    done
    for candidate in $matches; do
        if below_match "$candidate" || in_our_run "$candidate"; then continue; fi
        foreign="$foreign $candidate"
        foreign_count=$((foreign_count + 1))
        if has_slot_open "$candidate"; then foreign_slots=$((foreign_slots + 1)); fi
    done
}

# $free slots, $ours and $foreign_count. With the start lock held, so that two probes never meet.
count() {
    taken=0
    for slot_file in "$root"/slot.*; do
        if [ -e "$slot_file" ] && ! flock -n "$slot_file" true; then taken=$((taken + 1)); fi
    done
    find_foreign
    ours=$((taken - foreign_slots))
    free=$((slots - taken - foreign_count + foreign_slots))
    [ "$ours" -ge 0 ] || ours=0
    [ "$free" -ge 0 ] || free=0
}

# -- starting ----------------------------------------------------------------------------------------------------

# A run's own process, leader of its session and group. Its arguments: folder, slot, umask, command and words.
# The pid is on the disk before the command runs: without it the run was never started, with it never again.
# TERM is caught, not ignored, so that the command gets it and the exit status is still recorded.
write_wrapper() {
    cat <<'WRAPPER'
set -u
dir=$1 slot=$2 mask=$3
shift 3
trap : TERM
own_start() { started=${20}; }
stat=$(cat "/proc/$$/stat")
own_start ${stat##*) }
read -r boot </proc/sys/kernel/random/boot_id
: >>"$dir/log" && printf '%s\n' "$$" "$started" "$boot" "$slot" >"$dir/pid.tmp" && mv "$dir/pid.tmp" "$dir/pid" || exit 1
sync "$dir/pid" "$dir" "$dir/.." 2>/dev/null
(umask "$mask" && exec "$@") </dev/null >>"$dir/log" 2>&1 8>&-
status=$?
# a process substitution may still be writing
writing() {
    for path in $(grep -lsE "\) [A-Za-z] -?[0-9]+ -?[0-9]+ $$ " /proc/[0-9]*/stat); do
        [ "$path" = "/proc/$$/stat" ] && continue
        for descriptor in "${path%/stat}/fd"/*; do [ "$descriptor" -ef "$dir/log" ] && return 0; done
    done
    return 1
}
tries=0
while [ "$tries" -lt 100 ] && writing; do tries=$((tries + 1)); sleep 0.1; done
sync "$dir/log" 2>/dev/null
printf '%s\n' "$status" >"$dir/exit.tmp" && mv "$dir/exit.tmp" "$dir/exit"
sync "$dir/exit" "$dir" 2>/dev/null
WRAPPER
}

# The staging command's path in $program; its PATH, that of a login and $HOME/bin, in $login_path.
find_command() {
    login_path=$(timeout 10 "${SHELL:-/bin/sh}" -lc 'echo "AOG_PATH=$PATH"' 2>/dev/null </dev/null |
        sed -n 's/^AOG_PATH=//p' | tail -n 1)
    login_path=${login_path:-$PATH}:$HOME/bin
    # shellcheck disable=SC2088  # a tilde of the configuration, meant for this account
    case $command in
        /*) program=$command ;;
        '~/'*) program=$HOME/${command#'~/'} ;;
        */*) program=$HOME/$command ;;
        *) program=$(PATH=$login_path && command -v "$command") ;;
    esac
    case $program in /*) [ -f "$program" ] && [ -x "$program" ] ;; *) false ;; esac
}

lock_root() {
    mkdir -p "$root" 2>/dev/null && writable "$root/lock" || die "the run folder $root cannot be written"
    exec 9>>"$root/lock"
    flock -w 20 9 || die 'the start lock is held by another start'
}

answer_start() {
    say aogremote 1
    say outcome "$1"
    say ours "${ours:-0}"
    say foreign "${foreign_count:-0}"
    exit 0
}

leave_nothing() {
    rm -f "$dir/lock" "$dir/log" "$dir/wrapper" "$dir/pid.tmp"
    rmdir "$dir"
} 2>/dev/null

cannot_note() {
    leave_nothing
    die "the run cannot be noted in $root: is it writable, or its disk full?"
}

take_slot() {
    slot=0
    while [ "$slot" -lt "$slots" ]; do
        writable "$root/slot.$slot" || die "the run folder $root cannot be written"
        exec 7>>"$root/slot.$slot"
        flock -n 7 && return 0
        slot=$((slot + 1))
    done
    return 1
}

do_start() {
    token=$1
    lock_root
    judge
    [ "$run_state" = absent ] || answer_start already
    find_command || die "the staging command $command is not found or not executable"
    count
    if [ "$free" -eq 0 ] || ! take_slot; then
        leave_nothing
        answer_start busy
    fi
    mkdir -p "$dir" 2>/dev/null && writable "$dir/log" && writable "$dir/lock" || cannot_note
    exec 8>>"$dir/lock"
    flock -w 2 8 || answer_start already
    write_wrapper 2>/dev/null >"$dir/wrapper" || cannot_note
    (
        cd "$HOME" || exit 1
        if [ -n "$locale" ]; then LC_ALL=$locale; else unset LC_ALL; fi
        unset SSH_ORIGINAL_COMMAND
        PATH=$login_path
        AOG_TOKEN=$token AOG_SLOT_FD=7
        export PATH AOG_TOKEN AOG_SLOT_FD
        exec setsid -f sh "$dir/wrapper" "$dir" "$slot" "$mask" "$program" "$2" "$3" "$4"
    ) </dev/null >/dev/null 2>&1 9>&-
    exec 7>&- 8>&-
    tries=0
    while ! [ -e "$dir/pid" ] && ! [ -e "$dir/exit" ]; do
        lock_held || [ -e "$dir/pid" ] || cannot_note
        tries=$((tries + 1))
        [ "$tries" -le 200 ] || die 'the run has not begun within 10 s'
        sleep 0.05
    done
    answer_start started
}

# -- the other verbs ---------------------------------------------------------------------------------------------

free_bytes() {
    kilobytes=$(df -Pk "$1" 2>/dev/null | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9-][0-9]*% .*/\1/p')
    [ -n "$kilobytes" ] && echo $((kilobytes * 1024))
}

# Bytes free for the runs' logs and for staged data.
tell_room() {
    place=$root
    [ -d "$place" ] || place=$HOME
    say disk_free "$(free_bytes "$place" || echo 0)"
    if [ -d "$web_root" ]; then say web_free "$(free_bytes "$web_root" || echo 0)"; fi
}

kills_user_processes() {
    case $(cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null |
        sed -n 's/^[[:blank:]]*KillUserProcesses[[:blank:]]*=[[:blank:]]*//p' | tail -n 1) in
        [Yy]es | YES | [Tt]rue | TRUE | [Oo]n | ON | 1) echo yes ;;
        *) echo no ;;
    esac
}

# The journal that owns the run folder: the first to ask. The link makes it whole and once.
claim() {
    { mkdir -p "$root" && printf '%s\n' "$1" >"$root/journal.$$"; } 2>/dev/null || die "the run folder $root cannot be written"
    ln "$root/journal.$$" "$root/journal" 2>/dev/null
    rm -f "$root/journal.$$"
}

do_hello() {
    [ $# -eq 0 ] || claim "$1"
    say aogremote 1
    say host "$(uname -n)"
    say user "$(id -un 2>/dev/null || echo "${LOGNAME:-unknown}")"
    say operator "$operator"
    say boot "$boot"
    line=''
    first_line "$root/journal"
    say journal "$line"
    say slots "$slots"
    say time "$(date +%s)"
    tell_room
    say filesystem "$(stat -f -c %T "$place" 2>/dev/null)"
    say kill_user_processes "$(kills_user_processes)"
    for tool in flock setsid tail; do
        if command -v "$tool" >/dev/null; then say tool "$tool yes"; else say tool "$tool no"; fi
    done
    if find_command; then say tool 'command yes'; else say tool 'command no'; fi
}

do_status() {
    say aogremote 1
    if [ $# -eq 0 ]; then
        tell_runs
    else
        token=$1
        tell_run
    fi
}

do_list() {
    lock_root
    say aogremote 1
    tell_runs live
    count
    say free "$free"
    tell_room
    for candidate in $foreign; do
        say foreign "$candidate $(tr '\0' ' ' 2>/dev/null <"/proc/$candidate/cmdline" | tr -c ' -~' '?' | head -c 200)"
    done
}

# Ends when the run has and its log is told whole. When nobody reads any more GNU tail (since 8.28) ends by itself.
do_log() {
    token=$1
    judge
    [ "$run_state" != absent ] || die "there is no run $token"
    size=$(wc -c 2>/dev/null <"$dir/log") || die "the run $token has no log yet"
    [ "$2" -le "$size" ] || die "the log of run $token has only $size bytes"
    watch_run </dev/null >/dev/null 2>&1 &
    watcher=$!
    tail -c "+$(($2 + 1))" -f -s 0.2 --pid="$watcher" "$dir/log" </dev/null && exit 0
    kill "$watcher" 2>/dev/null
    die 'the log could not be sent'
}

watch_run() {
    while ! [ -e "$dir/exit" ] && { [ "$run_state" = starting ] || run_lives; }; do
        sleep 0.2
        if [ "$run_state" = starting ]; then judge; fi
    done
}

# Ends our own session only: TERM to its group, after the grace KILL to what is left but the wrapper.
do_stop() {
    token=$1
    judge
    find_members
    if [ "$run_state" = running ] || [ -n "$members" ]; then
        printf '%s\n' "${operator:-$(id -un)}" >"$dir/stopped.tmp" && mv "$dir/stopped.tmp" "$dir/stopped"
        if wrapper_lives; then kill -s TERM -- "-$run_pid"; else signal_members TERM; fi 2>/dev/null
        tries=0
        while [ "$tries" -lt 150 ] && { run_lives || [ -n "$members" ]; }; do
            tries=$((tries + 1))
            [ "$tries" -ne 100 ] || signal_members KILL
            sleep 0.1
        done
    fi
    say aogremote 1
    tell_run
}

# `since`: the seconds at which a directory was staged; it is deleted when it is older than the retention.
do_staged() {
    [ -z "$web_root" ] || cd -P "$web_root" 2>/dev/null || die 'the web root is not there'
    say aogremote 1
    [ -n "$web_root" ] || return 0
    for staged in */; do
        staged=${staged%/}
        is_hex32 "$staged" && ! [ -L "$staged" ] || continue
        if is_kept "$staged"; then say kept "$staged"; else say staged "$staged"; fi
    done
    hex='[0-9a-f][0-9a-f][0-9a-f][0-9a-f]'
    hex=$hex$hex$hex$hex
    # shellcheck disable=SC2086  # a pattern on purpose
    stat -c 'since %n %Y %F' $hex$hex 2>/dev/null | sed -n 's/ directory$//p'
}

# Whatever has the name: stagecalms deletes no directory that has it.
is_kept() {
    [ -e "$1/.donotremove" ] || [ -L "$1/.donotremove" ]
}

# The directory keeps its time, from which its days are counted.
do_keep() {
    [ -n "$web_root" ] && top=$(cd -P "$web_root" 2>/dev/null && pwd) || die 'the web root is not there'
    cd -P "$top/$1" 2>/dev/null && [ "$(pwd)" = "${top%/}/$1" ] || die "there is no staged directory $1"
    since=$(stat -c %Y . 2>/dev/null)
    if [ "${2-}" = off ]; then
        rm -f .donotremove || die "the .donotremove of $1 cannot be removed"
    elif ! is_kept .; then
        (set -C && : >.donotremove) 2>/dev/null || die "a .donotremove cannot be put into $1"
    fi
    [ -z "$since" ] || touch -m -d "@$since" . 2>/dev/null
    # who deletes takes it out of reach, and then looks for the mark once more: one of the two sees the other
    [ "${2-}" = off ] || is_kept "$top/$1" || die "the staged directory $1 is being deleted"
    say aogremote 1
}

main() {
    while [ $# -gt 0 ]; do
        case $1 in
            --operator | --root | --slots | --command | --web-root) [ $# -ge 2 ] || refuse "option $1 needs a value" ;;
            -*) refuse 'there is no such option' ;;
            *) break ;;
        esac
        case $1 in
            --operator) operator=$2 ;;
            --root) root=$2 ;;
            --slots) slots=$2 ;;
            --command) command=$2 ;;
            --web-root) web_root=$2 ;;
        esac
        shift 2
    done
    [ -z "$operator" ] || is_name "$operator" || refuse 'the operator is not a name'
    is_number "$slots" || refuse 'the number of slots is not a number'
    case $root in /*) ;; *) root=$HOME/$root ;; esac
    if [ $# -eq 0 ]; then
        IFS=' 	'
        set -f
        # shellcheck disable=SC2086  # split on purpose, without globbing
        set -- ${SSH_ORIGINAL_COMMAND-}
        set +f
        unset IFS
    fi
    first_line /proc/sys/kernel/random/boot_id
    boot=$line
    verb=${1-}
    [ $# -eq 0 ] || shift
    case $verb/$# in
        hello/0 | status/0 | list/0 | staged/0) ;;
        hello/1) is_name "$1" ;;
        start/4) is_hex32 "$1" && is_project "$2" && is_uid "$3" && is_ticket "$4" ;;
        status/1 | stop/1 | keep/1) is_hex32 "$1" ;;
        log/2) is_hex32 "$1" && is_number "$2" ;;
        keep/2) is_hex32 "$1" && [ "$2" = off ] ;;
        *) false ;;
    esac || refuse 'not a verb with its words'
    "do_$verb" "$@"
    exit 0
}

main "$@"
