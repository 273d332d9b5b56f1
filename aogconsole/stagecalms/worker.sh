# The worker of one working directory, leader of its own session: calls the calibrator, then packs what it left.
# Its argument is the directory; its words (umask, LC_ALL, calibrator, PROJECT, MOUS, EB...) are in
# .stagecalms/worker.words, its token in the environment. The pid is on the disk before the calibrator runs. TERM is caught, so that the end is
# still recorded. Only what is complete has its last name: tars are made as .part.

set -u
umask 077
work=$1 dir=$1/.stagecalms tars=$1/.stagecalms/tars
LC_ALL=C
export LC_ALL
trap : TERM

own_start() { started=${20}; }
stat=$(cat "/proc/$$/stat")
# shellcheck disable=SC2086
own_start ${stat##*) }
read -r boot </proc/sys/kernel/random/boot_id
: >>"$dir/log" && printf '%s\n' "$$" "$started" "$boot" worker >"$dir/pid.new" && mv "$dir/pid.new" "$dir/pid" || exit 1
sync "$dir/pid" "$dir" "$work/.." 2>/dev/null
# the start is over: others may look
exec 8>&-
exec </dev/null >>"$dir/log" 2>&1

complain() {
    rm -f "$dir/reserve"
    printf 'ERROR: %s\n' "$1"
}

# The exit status is whole and on the disk, or not there.
leave() {
    rm -f "$dir/reserve"
    sync "$dir/log" 2>/dev/null
    printf '%s\n' "$1" >"$dir/exit.new" && sync "$dir/exit.new" 2>/dev/null
    mv "$dir/exit.new" "$dir/exit"
    sync "$dir" 2>/dev/null
    exit 0
}

# Does a process of this session but us still write the log? (A process substitution of the calibrator.)
writing() {
    for path in $(grep -lsE "\) [A-Za-z] -?[0-9]+ -?[0-9]+ $$ " /proc/[0-9]*/stat); do
        [ "$path" = "/proc/$$/stat" ] && continue
        for descriptor in "${path%/stat}/fd"/*; do [ "$descriptor" -ef "$dir/log" ] && return 0; done
    done
    return 1
}

calibrate() {
    cd "$work" || return 1
    umask "$mask"
    if [ -n "$locale" ]; then LC_ALL=$locale; else unset LC_ALL; fi
    # shellcheck disable=SC2016
    exec sh -c "$calibrator"' "$@"' calibrator "$@"
}

# One tar, and its checksum from the same pass. Whichever of the three fails, the tar does not get its name, and the
# room that it took is given back: something may have to be said. Of a failure the programs' own words are told;
# marks between them say which one failed.
pack() {
    ms=$1.ms.split.cal
    part=$tars/$ms.tar.part
    true >"$part" && mkfifo "$dir/fifo" || return 1
    sha256sum <"$dir/fifo" >"$dir/sum" &
    summing=$!
    # shellcheck disable=SC2086
    said=$({ { tar $sorted -cf - -C "$work" "$ms" 2>&3 || echo 'FAILED: tar' >&3; } |
        tee "$dir/fifo" 2>&3 >"$part" || echo 'FAILED: tee' >&3; } 3>&1)
    # it may have ended by itself
    case $said in *FAILED:*) kill "$summing" 2>/dev/null ;; esac
    { wait "$summing"; } 2>/dev/null && read -r sum rest <"$dir/sum" && [ ${#sum} -eq 64 ] || said="$said
FAILED: sha256sum"
    rm -f "$dir/fifo"
    case $said in
        *FAILED:*)
            rm -f "$part" "$dir/reserve"
            why=$(printf '%s\n' "$said" | sed "/^FAILED: /d; /^\$/d; s/^tee: [^:]*: /$ms.tar: /")
            [ -n "$why" ] || why=$(printf '%s\n' "$said" | sed -n 's/^FAILED: \(.*\)/\1 failed/p' | head -n 1)
            printf '%s\n' "$why"
            return 1
            ;;
        ?*) printf '%s\n' "$said" ;;
    esac
    # an old sync takes no files: it says so, and writes all there is
    printf '%s\n' "$sum" >"$tars/$ms.tar.sha256" && sync "$part" "$tars/$ms.tar.sha256" 2>/dev/null &&
        mv "$part" "$tars/$ms.tar" && sync "$tars" 2>/dev/null || return 1
    # a copy of what may only be read is opened first; what cannot go now goes with the working directory
    { rm -rf "${work:?}/$ms" || { chmod -R u+rwX "$work/$ms" && rm -rf "$work/$ms"; } || true; } 2>/dev/null
}

stop_if_ended() {
    if [ -e "$dir/ended" ]; then
        complain 'the worker was ended.'
        leave 143
    fi
}

main() {
    { read -r mask && read -r locale && IFS= read -r calibrator; } <"$dir/worker.words" || leave 1
    # shellcheck disable=SC2046  # identifiers, checked
    set -- $(tail -n +4 "$dir/worker.words")
    stop_if_ended
    # room for the last words when the disk is full
    head -c 65536 /dev/zero >"$dir/reserve" || leave 1
    (calibrate "$@")
    status=$? tries=0
    while [ "$tries" -lt 100 ] && ! [ -e "$dir/ended" ] && writing; do
        tries=$((tries + 1))
        sleep 0.1
    done
    stop_if_ended
    if [ "$status" -ne 0 ]; then
        complain "the calibrator ended with status $status."
        leave 1
    fi
    shift 2
    missing=''
    for block in "$@"; do
        if ! [ -d "$work/$block.ms.split.cal" ] || [ -L "$work/$block.ms.split.cal" ]; then
            complain "$block.ms.split.cal was not created."
            missing=yes
        elif [ -z "$(ls -A "$work/$block.ms.split.cal")" ]; then
            complain "$block.ms.split.cal is empty."
            missing=yes
        fi
    done
    [ -z "$missing" ] || leave 1
    mkdir "$tars" || leave 1
    sorted=''
    case $(tar --version 2>/dev/null) in *GNU*) tar --sort=name --numeric-owner -cf /dev/null /dev/null 2>/dev/null && sorted='--sort=name --numeric-owner' ;; esac
    for block in "$@"; do
        pack "$block" || {
            stop_if_ended
            complain "$block.ms.split.cal cannot be packed."
            leave 1
        }
        stop_if_ended
    done
    leave 0
}

main
