# Words that are checked again where they arrive. Shared: this text is put into the program of the staging host
# (aogremote.sh) and into that of a cluster node (stagecalms/node.sh) when they are made.

is_hex32() {
    case $1 in *[!0-9a-f]*) return 1 ;; esac
    [ ${#1} -eq 32 ]
}

is_number() {
    case $1 in '' | *[!0-9]* | 0?*) return 1 ;; esac
    [ ${#1} -le 15 ]
}

is_project() {
    year='[0-9][0-9][0-9][0-9].[0-9A-Z].[0-9][0-9][0-9][0-9][0-9]'
    # shellcheck disable=SC2254  # a pattern on purpose
    case $1 in
        $year.[STVLP] | $year.[A-Z][A-Z] | $year.[A-Z][A-Z][A-Z] | $year.[A-Z][A-Z][A-Z][A-Z]) return 0 ;;
    esac
    return 1
}

is_uid_part() {
    case $1 in '' | *[!0-9a-f]* | 0?*) return 1 ;; esac
    [ ${#1} -le 12 ]
}

is_uid() {
    case $1 in uid___A00[1-9]_X*_X*) ;; *) return 1 ;; esac
    parts=${1#uid___A00?_X}
    is_uid_part "${parts%%_X*}" && is_uid_part "${parts#*_X}"
}
