#!/bin/sh
# scriptforpi.sh: the calibrator shipped with stagecalms, for deliveries with a scriptForPI.py, in CASA.
#
#   scriptforpi.sh [--casa 'COMMAND'] [--fetch 'COMMAND'] [--set 'PYTHON'] PROJECT MOUS EB...
#
# Started on a node in an empty working directory; leaves the MeasurementSet of each execution block there, named
# <EB>.ms.split.cal, and ends with 0 only when all are there. Both COMMANDs are command lines for the shell.
#   --fetch  is called here with PROJECT MOUS EB...: it unpacks the delivered products and the raw ASDMs here, at any
#            depth: .../script/*scriptForPI.py, .../raw/<EB>.asdm.sdm. Without it they are here already.
#   --casa   is called in script/ with --nologger --nogui -c NAME; `casa` otherwise.
#   --set    Python statements before scriptForPI.py's: its options, as 'SPACESAVING = 2; DOSPLIT = True'.
# CASA's exit status proves nothing, so it is what scriptForPI.py says that counts: it is done, and no ERROR of an
# execution block that was asked for. All output is passed on as it comes, and kept in scriptforpi.log. On failure
# everything stays where it is. Exit status: 0 done, 1 failed, 2 the words are not ours.
# Its words and names are those of scriptForPI.py 1.7 (2014) to 2.5 (2023).

set -u
casa=casa
fetch=''
options=''
work=$(pwd -P) || exit 1
log=$work/scriptforpi.log

die() {
    printf 'ERROR: %s\n' "$1" >&2
    exit 1
}

refuse() {
    printf 'ERROR: scriptforpi.sh: %s\n' "$1" >&2
    exit 2
}

say() {
    printf '%s\n' "$1"
}

is_uid() {
    case $1 in uid___A00[1-9]_X*_X*) ;; *) return 1 ;; esac
    case ${1#uid___A00?_X} in *[!0-9a-f_X]* | *_*_* | *X*X* | _* | *X | 0[0-9a-f]* | *X0[0-9a-f]*) return 1 ;; esac
    [ ${#1} -le 40 ]
}

is_project() {
    case $1 in '' | [!0-9A-Za-z]* | *[!0-9A-Za-z._-]*) return 1 ;; esac
    [ ${#1} -le 64 ]
}

# -- the delivered products ----------------------------------------------------------------------------------------

# Nothing that is here already may pass for a result of this run.
check_free() {
    for block in "$@"; do
        found=$work/$block.ms.split.cal
        if [ -e "$found" ] || [ -L "$found" ]; then die "$found is there already: remove it to calibrate anew"; fi
    done
}

get_products() {
    [ -n "$fetch" ] || return 0
    say 'Fetching the delivered products and raw data ...'
    sh -c "$fetch \"\$@\"" fetch "$@" </dev/null || die "the products of $2 could not be fetched: exit status $?"
}

# The one scriptForPI.py in $script; of several that of the member OUS $1.
find_script() {
    scripts=$(find . -name '*scriptForPI.py' -type f)
    if [ "$(count_lines "$scripts")" -gt 1 ]; then
        of_mous=$(printf '%s\n' "$scripts" | grep -F "/member.$1/")
        [ "$(count_lines "$of_mous")" -ne 1 ] || scripts=$of_mous
    fi
    [ -n "$scripts" ] || die "no *scriptForPI.py was delivered for $1"
    [ -f "$scripts" ] || die "there is more than one scriptForPI.py: $(printf '%s' "$scripts" | tr '\n' ' ')"
    case $scripts in ./*/*) ;; *) die 'scriptForPI.py is in no folder script/' ;; esac
    script=$work/${scripts#./}
}

count_lines() {
    if [ -z "$1" ]; then echo 0; else printf '%s\n' "$1" | wc -l; fi
}

# What scriptForPI.py needs beside its folder; and it refuses when `calibrated` exists.
check_products() {
    missing=''
    for block in "$@"; do
        [ -d "$top/raw/$block.asdm.sdm" ] || missing="$missing $block.asdm.sdm"
    done
    [ -z "$missing" ] || die "raw data are missing in $top/raw:$missing"
    if [ -e "$top/calibrated" ] || [ -L "$top/calibrated" ]; then
        die "$top/calibrated exists, so scriptForPI.py would refuse: remove it to calibrate anew"
    fi
}

# -- CASA ----------------------------------------------------------------------------------------------------------

# What CASA is to run, in $run: the script itself, or a file that sets its options before.
prepare_run() {
    run=${script##*/}
    [ -n "$options" ] || return 0
    case $run in *[!0-9A-Za-z_.-]*) die "the name of scriptForPI.py cannot be used: $run" ;; esac
    {
        printf '%s\n' "$options"
        printf "with open('%s') as script:\n    exec(compile(script.read(), '%s', 'exec'), globals())\n" "$run" "$run"
    } >"$place/scriptforpi_set.py" || die "$place cannot be written"
    run=scriptforpi_set.py
}

# Run scriptForPI.py; its exit status in $status. A file and `tail` instead of a pipe: a helper that CASA leaves behind
# may keep the output open, and would be waited for.
run_casa() {
    say "Running ${script##*/} ..."
    true >"$log" || die "$log cannot be written"
    PYTHONUNBUFFERED=1
    export PYTHONUNBUFFERED
    (cd "$place" && exec sh -c "$casa \"\$@\"" casa --nologger --nogui -c "$run") </dev/null >>"$log" 2>&1 &
    running=$!
    trap 'end_tree "$running"; exit 143' HUP INT TERM
    tail -n +1 -s 0.1 -f --pid="$running" "$log" &
    following=$!
    wait "$running"
    status=$?
    wait "$following"
}

# End process $1 and those below it. Who tries it by hand ends it so; a worker ends its whole session.
end_tree() {
    for path in $(grep -lsE "\) [A-Za-z] $1 " /proc/[0-9]*/stat); do
        path=${path#/proc/}
        end_tree "${path%/stat}"
    done
    kill "$1" 2>/dev/null
}

free_megabytes() {
    df -Pk . | sed -n '2s/.* \([0-9][0-9]*\)  *[0-9-][0-9]*% .*/\1/p' | while read -r kilobytes; do
        echo $((kilobytes / 1024))
    done
}

# Its lines that begin as $1 (a basic regular expression); a progress bar's carriage return ends a line too, and
# what it gives to sys.exit may have a prefix.
lines_of() {
    tr '\r' '\n' <"$log" | LC_ALL=C sed -n "s/^[[:blank:]]*\\(SystemExit: \\)\\{0,1\\}\\($1.*\\)\$/\\2/p" | tail -n 1000
}

# Is $1 among the words after it?
among() {
    sought=$1
    shift
    for word in "$@"; do [ "$word" != "$sought" ] || return 0; done
    return 1
}

# What scriptForPI.py said. An execution block that was not asked for may fail: it is not staged.
judge() {
    not_created='' other='' look="the lines above, and CASA's logs in $top, say why"
    errors=$(lines_of 'ERROR:')
    while IFS= read -r line; do
        case $line in
            '') ;;
            *'not enough free disk space'*)
                die "scriptForPI.py has $(free_megabytes) MB in $work: ${line#ERROR: }"
                ;;
            *'No calibration script found'*)
                die 'the delivery has no calibration script: scriptForPI.py cannot calibrate it'
                ;;
            # of other execution blocks: raw data of all that were asked for are there
            'ERROR: the following ASDMs have calibration information but are absent'*) ;;
            'ERROR: uid___'*' was not created'*)
                block=${line#ERROR: }
                block=${block%%[!0-9A-Za-z_]*}
                if among "$block" "$@"; then not_created="$not_created $block"; fi
                ;;
            *) other=${other:-$line} ;;
        esac
    done <<ERRORS
$errors
ERRORS
    [ -z "$not_created" ] || die "scriptForPI.py created no MeasurementSet of$not_created: $look"
    [ -z "$other" ] || die "scriptForPI.py failed: ${other#ERROR: }"
    [ -n "$(lines_of 'Done\. Please find results')" ] ||
        die "scriptForPI.py did not come to its end (exit status $status): $look"
    [ "$status" -eq 0 ] || say "CASA ended with $status, but scriptForPI.py is done."
}

# -- its results ---------------------------------------------------------------------------------------------------

# The MeasurementSet of execution block $1 in $found: under the names that scriptForPI.py has had, the best first.
# `.ms` alone is the result when the imaging pipeline was used; `_bl` and `.PM*` are of single dishes.
find_ms() {
    for suffix in .ms.split.cal .polcalibrated.APP.ms '.*_bl' '.PM*.ms' .ms; do
        for folder in "$top/calibrated" "$top/calibrated/working"; do
            found=''
            # shellcheck disable=SC2231  # a pattern on purpose
            for name in "$folder/$1"$suffix; do
                [ -d "$name" ] || continue
                [ -z "$found" ] || die "there is more than one MeasurementSet of $1: ${found##*/} ${name##*/}"
                found=$name
            done
            [ -n "$found" ] || continue
            # of a link what it leads to, if that is ours
            if [ -L "$found" ]; then found=$(cd -P "$found" && pwd -P) || continue; fi
            case $found in "$work"/*) return 0 ;; esac
        done
    done
    return 1
}

# All or none are moved; moved within the working directory, they take no room.
take_results() {
    missing=''
    for block in "$@"; do
        if find_ms "$block"; then
            [ -f "$found/table.dat" ] || die "$found is no MeasurementSet"
        else
            missing="$missing $block"
        fi
    done
    [ -z "$missing" ] || die "scriptForPI.py is done, but left no MeasurementSet of$missing in $top/calibrated"
    for block in "$@"; do
        find_ms "$block" && mv "$found" "$work/$block.ms.split.cal" ||
            die "the MeasurementSet of $block cannot be moved"
    done
}

# -- the words -----------------------------------------------------------------------------------------------------

while [ $# -gt 0 ]; do
    case $1 in
        --casa | --fetch | --set)
            [ $# -gt 1 ] && [ -n "$2" ] || refuse "$1 needs a word more"
            case $1 in
                --casa) casa=$2 ;;
                --fetch) fetch=$2 ;;
                --set) options=$2 ;;
            esac
            shift 2
            ;;
        -*) refuse "there is no option $1" ;;
        *) break ;;
    esac
done
[ $# -ge 3 ] || refuse 'its words are PROJECT MOUS EB...'
is_project "$1" || refuse 'the first word is no project code'
project=$1 mous=$2
shift
for word in "$@"; do
    is_uid "$word" || refuse 'MOUS and execution blocks are UIDs as uid___A001_X133d_X1244'
done
shift

check_free "$@"
get_products "$project" "$mous" "$@"
find_script "$mous"
place=${script%/*}
top=${place%/*}
check_products "$@"
prepare_run
run_casa
judge "$@"
take_results "$@"
say "The MeasurementSets of $# execution block(s) are ready."
