# Shared by setup, odoo, run and test: where things are, how a failure speaks, databases.
# shellcheck shell=bash

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
REPO=$(dirname "$SCRIPTS")
SCRIPT=${0##*/}
STEP=start

say() { printf '%s: %s\n' "$SCRIPT" "$*" >&2; }

# fail WHY WHAT-TO-DO... : each further argument is one line of advice, often a command to copy.
fail() {
    printf '\n%s failed at step "%s": %s\n' "$SCRIPT" "$STEP" "$1" >&2
    shift
    [ $# -eq 0 ] || printf 'What to do:\n' >&2
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

# Only in the shell itself: a subshell's failure reaches whoever asked for its output.
trap '[ "$BASH_SUBSHELL" -gt 0 ] ||
    fail "\"$BASH_COMMAND\" ended with $? (${BASH_SOURCE[0]##*/}, line $LINENO)" \
        "Read the lines above; \"bash -x $0\" shows every command."' ERR
set -E

[ -n "${XDG_CACHE_HOME:-}${HOME:-}" ] ||
    fail "neither HOME nor XDG_CACHE_HOME is set" "export XDG_CACHE_HOME=/a/folder/you/may/write"
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tiered-cache
VENV=$CACHE/venv
PYTHON=$VENV/bin/python
mkdir -p "$CACHE" 2>/dev/null || fail "cannot create the cache folder $CACHE" \
    "export XDG_CACHE_HOME=/a/folder/you/may/write"

# Odoo finds an addon by its folder's name, and a checkout may have any name.
ADDONS=$CACHE/addons/$(printf '%s' "$REPO" | md5sum | cut -c1-12)
ADDON=$ADDONS/tiered_cache

# Where Odoo keeps the files of databases and sessions.
DATA_DIR=${ODOO_DATA_DIR:-${XDG_DATA_HOME:-${HOME:-$CACHE}/.local/share}/Odoo}
# shellcheck disable=SC2034 # used by setup and run
DEFAULT_REDIS_URL=redis://localhost:6379/0
REQUIREMENTS=("$REPO/requirements.txt" "$SCRIPTS"/requirements-{odoo,dev}.txt)

# --- Odoo ---------------------------------------------------------------------------------------

ODOO_ROOT=${ODOO_HOME:-$CACHE/odoo}
DIST=$ODOO_ROOT/usr/lib/python3/dist-packages # where Debian's package keeps Odoo's code

# A source checkout starts by odoo-bin, Debian's package by usr/bin/odoo.
odoo_launcher() {
    local launcher
    for launcher in "$ODOO_ROOT/odoo-bin" "$ODOO_ROOT/usr/bin/odoo"; do
        if [ -f "$launcher" ]; then
            printf '%s' "$launcher"
            return
        fi
    done
    return 1
}

# Names what is run, so that a database prepared for one Odoo is not taken for another.
odoo_version() {
    local changelog
    if [ -e "$ODOO_ROOT/.git" ] && git -C "$ODOO_ROOT" rev-parse HEAD 2>/dev/null; then return; fi
    for changelog in "$ODOO_ROOT"/usr/share/doc/odoo-19*/changelog.Debian.gz; do
        [ ! -f "$changelog" ] || { zcat "$changelog" | sed -n '1s/.*(\(.*\)).*/\1/p' && return; }
    done
    sed -n 's/^version_info *= *(\([^,]*\), *\([^,]*\).*/\1.\2/p' \
        "$ODOO_ROOT/odoo/release.py" "$DIST/odoo/release.py" 2>/dev/null | head -n 1
}

# The virtual environment is good as long as this has not changed.
venv_key() { cat "${REQUIREMENTS[@]}" | md5sum | cut -d' ' -f1; }

ready() {
    odoo_launcher >/dev/null && [ -d "$ADDON/" ] &&
        { [ -n "${ODOO_HOME:-}" ] || [ -f "$ODOO_ROOT/.ready" ]; } &&
        [ "$(cat "$VENV/.ready" 2>/dev/null)" = "$(venv_key)" ]
}

# What every Odoo started from here needs in its environment.
export_environment() {
    [ ! -d "$DIST/odoo" ] || export PYTHONPATH=$DIST${PYTHONPATH:+:$PYTHONPATH}
    case ",${ODOO_ADDONS_PATH:-}," in
    *",$ADDONS,"*) ;;
    *) export ODOO_ADDONS_PATH=$ADDONS${ODOO_ADDONS_PATH:+,$ODOO_ADDONS_PATH} ;;
    esac
    if ! postgres_given && [ -z "${PGPORT:-}" ] && [ -s "$CACHE/pgport" ]; then
        PGPORT=$(<"$CACHE/pgport")
        export PGPORT
    fi
}

# --- PostgreSQL ---------------------------------------------------------------------------------

# PGPORT alone only chooses among this machine's clusters.
postgres_given() { [ -n "${PGHOST:-}${PGHOSTADDR:-}${PGSERVICE:-}" ]; }

sql() { psql -XqAt -v ON_ERROR_STOP=1 -d "${DB:-postgres}" -c "$1"; }

database_exists() { [ -n "$(sql "SELECT 1 FROM pg_database WHERE datname = '$1'")" ]; }

# demo_database NAME : fails unless scripts/run has made it. Others are somebody's own, never changed.
demo_database() {
    local mark
    database_exists "$1" || fail "it does not exist" "scripts/run --database $1"
    mark=$(sql "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '$1'")
    [[ $mark == "tiered_cache demo "* ]] ||
        fail "scripts/run has not made it, and it would be changed" \
            "scripts/run --database another_name, and use that one"
}

filestore() { printf '%s/filestore/%s' "$DATA_DIR" "$1"; }

drop_database() {
    # FORCE is refused to all but superusers while autovacuum works there
    sql "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)" 2>/dev/null ||
        sql "DROP DATABASE IF EXISTS \"$1\"" 2>/dev/null
    rm -rf "$(filestore "$1")"
}

rename_database() {
    sql "ALTER DATABASE \"$1\" RENAME TO \"$2\""
    rm -rf "$(filestore "$2")"
    [ ! -d "$(filestore "$1")" ] || mv "$(filestore "$1")" "$(filestore "$2")"
}

# The copy gets an identity of its own, as Odoo's own duplication does: otherwise both would share
# what is kept outside under the database's uuid.
clone_database() {
    sql "CREATE DATABASE \"$2\" ENCODING 'UTF8' TEMPLATE \"$1\""
    DB=$2 sql "UPDATE ir_config_parameter SET value = gen_random_uuid()
               WHERE key IN ('database.uuid', 'database.secret')"
    [ ! -d "$(filestore "$1")" ] || cp -a "$(filestore "$1")" "$(filestore "$2")"
}

# Databases to drop when the script ends, however it ends.
TEMPORARY=()
drop_temporary() {
    local database
    for database in "${TEMPORARY[@]}"; do drop_database "$database" || true; done
    TEMPORARY=()
}

clean_up_at_exit() {
    trap 'end_jobs; drop_temporary' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

free_port() {
    "$PYTHON" -c 'import socket
with socket.socket() as sock:
    sock.bind(("127.0.0.1", 0))
    print(sock.getsockname()[1])'
}

# odoo_job LOG ARGS... : one Odoo that installs or tests and ends; then "wait $!". It runs in the
# background, since bash runs traps only between foreground commands, and in a process group of its
# own, so that ending it also ends the servers and browsers its tests have started. setpriv ends it
# even when this script is killed with -9. On SIGQUIT Odoo logs where each of its threads hangs. A
# process that runs tests may grow as it likes: L1 is not to give way in the middle of a test.
JOBS=()
JOB_LIMIT_S=1200
odoo_job() {
    local log=$1 port
    shift
    port=$(free_port)
    setsid setpriv --pdeathsig TERM timeout --signal=QUIT --kill-after=5 "$JOB_LIMIT_S" \
        "$SCRIPTS/odoo" --http-interface=127.0.0.1 --http-port="$port" --max-cron-threads=0 \
        --limit-memory-soft=0 --stop-after-init "$@" >"$log" 2>&1 </dev/null &
    JOBS+=($!)
}

end_jobs() {
    local pid
    for pid in "${JOBS[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
    for pid in "${JOBS[@]}"; do
        for _ in {1..50}; do
            kill -0 -- "-$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$pid" 2>/dev/null || true
    done
    JOBS=()
}

# Sets PREPARED to the name of a database with Odoo's demo data but without the addon, made once for
# each Odoo and cloned from then on.
prepared_demo() {
    local modules=sale_management,purchase,stock,website_sale making log
    PREPARED=tiered_cache_template_$(printf '%s' "$(odoo_version) $ODOO_ROOT $modules" |
        md5sum | cut -c1-8)
    exec 8>"$CACHE/$PREPARED.lock"
    flock -n 8 || { say "another run is preparing $PREPARED; waiting" && flock 8; }
    # Without its files it is of no use either, whoever has removed them.
    if ! database_exists "$PREPARED" || [ ! -d "$(filestore "$PREPARED")" ]; then
        STEP="preparing Odoo's demo database"
        say "$STEP with $modules (once for each Odoo, some minutes)"
        making=${PREPARED}_making
        log=$CACHE/$making.log
        drop_database "$PREPARED"
        drop_database "$making" # left by a run that was killed
        TEMPORARY+=("$making")
        odoo_job "$log" -d "$making" -i "$modules" --with-demo
        if ! wait $!; then
            grep -E ' (ERROR|CRITICAL) ' "$log" | tail -n 5 >&2 || tail -n 15 "$log" >&2
            fail "Odoo could not install $modules" "Read $log"
        fi
        rename_database "$making" "$PREPARED"
        # Keeps every other Odoo of this machine, whose cron looks into each database, out of it.
        sql "ALTER DATABASE \"$PREPARED\" ALLOW_CONNECTIONS false"
        rm -f "$log"
    fi
    exec 8>&-
}
