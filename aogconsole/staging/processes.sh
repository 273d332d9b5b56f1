# Processes of a run, told from others that merely have the same number. Shared: this text is put into the program of the
# staging host (aogremote.sh) and into that of a cluster node (stagecalms/node.sh) when they are made.
#
# Asked for: $dir, the run's folder; $token, in the environment of its processes as the variable named $token_name; and
# $boot, this boot's id. $dir/pid: the wrapper's pid, its start time, the boot id and a fourth word; $dir/lock is held by
# it; $dir/exit is its exit status. The wrapper is the leader of the run's session.

# The first line of a file in $line; nothing forked.
first_line() {
    line=''
    { IFS= read -r line <"$1"; } 2>/dev/null
    [ -n "$line" ]
}

# Of process $1: $state $parent $session $started; 1 when there is none, or only its zombie.
process() {
    stat='' state='' parent='' session='' started=''
    while IFS= read -r line || [ -n "$line" ]; do stat="$stat$line "; done 2>/dev/null <"/proc/$1/stat"
    [ -n "$stat" ] || return 1
    # the name in parentheses may hold blanks and parentheses: what counts follows the last one
    # shellcheck disable=SC2086
    process_fields ${stat##*) }
    [ "$state" != Z ] && [ "$state" != X ]
}

process_fields() {
    state=$1 parent=$2 session=$4 started=${20}
}

# Does process $1 carry the token $2?
has_token() {
    grep -qsxzF -e "$token_name=$2" "/proc/$1/environ"
}

# $dir/pid in $run_pid $run_started $run_boot $run_slot.
read_pid() {
    run_pid='' run_started='' run_boot='' run_slot=''
    { read -r run_pid && read -r run_started && read -r run_boot && read -r run_slot; } 2>/dev/null <"$dir/pid"
}

# Does the wrapper live? The pid alone proves nothing: it may be used again, or of an earlier boot.
wrapper_lives() {
    [ "$run_boot" = "$boot" ] && process "$run_pid" && [ "$started" = "$run_started" ]
}

# The run's processes other than its wrapper, in $members: those of the wrapper's session. When the wrapper is gone
# and its number is used again the session is over; else only what carries the token is surely ours.
find_members() {
    members=''
    [ "$run_boot" = "$boot" ] || return 0
    wrapper=gone
    if wrapper_lives; then wrapper=lives; elif [ -d "/proc/$run_pid" ] && [ "$started" != "$run_started" ]; then return 0; fi
    for path in $(grep -lsE "\) [A-Za-z] -?[0-9]+ -?[0-9]+ $run_pid " /proc/[0-9]*/stat); do
        path=${path#/proc/}
        member=${path%/stat}
        [ "$member" != "$run_pid" ] && process "$member" && [ "$session" = "$run_pid" ] || continue
        if [ "$wrapper" = lives ] || has_token "$member" "$token"; then members="$members $member"; fi
    done
}

run_lives() {
    wrapper_lives && return 0
    find_members
    [ -n "$members" ]
}

# Is the token's lock held: by a wrapper, or by a start that is about to make one?
lock_held() {
    ! flock -sn "$dir/lock" true
}

# The exit status in $run_exit.
has_exited() {
    first_line "$dir/exit" && run_state=exited run_exit=$line run_why=''
}

# Signal $1 to all but the wrapper.
signal_members() {
    find_members
    for member in $members; do kill -s "$1" "$member" 2>/dev/null; done
}
