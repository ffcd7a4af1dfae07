# Functions that the scripts of this project share. A script sources this file after `set -euo pipefail`.
# shellcheck shell=bash disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# --- Clean-up -------------------------------------------------------------------------------------------------------

# Folders to remove when the script exits.
folders=()

# Ends the processes in the background, too. Only those that still run: the system may have given the id of another one to a
# process of somebody else.
clean_up() {
  local each
  for each in $(jobs -pr); do kill "$each" 2>/dev/null || true; done
  wait
  rm -rf ${folders[@]+"${folders[@]}"}
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets `work` to a new temporary folder.
make_work_folder() {
  work=$(mktemp -d)
  folders+=("$work")
}

# --- Tools ----------------------------------------------------------------------------------------------------------

# install_packages [COMMAND=]PACKAGE...: installs those Debian packages whose command is missing, with sudo unless root.
install_packages() {
  local each missing=() run=(env DEBIAN_FRONTEND=noninteractive)
  for each in "$@"; do
    command -v "${each%%=*}" >/dev/null || missing+=("${each#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" = 0 ] || run=(sudo "${run[@]}")
  "${run[@]}" apt-get update -qq
  "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# become_root ARGUMENT...: restarts the script with these arguments as root, unless it is root already. The environment
# stays, with the paths of cargo's programs and files.
become_root() {
  [ "$(id -u)" = 0 ] || exec sudo --preserve-env env PATH="$PATH" HOME="$HOME" "$0" "$@"
}

# alone COMMAND...: runs the command, as root, in a network namespace that has only a loopback interface, so that all
# ports are free and nothing reaches another machine; in a PID namespace, so that no process outlives it. crun cannot
# handle cgroups of both versions, which some machines have, and sets no limits here: it sees version 2 only.
alone() {
  timeout --foreground 300 unshare --net --mount --pid --fork --kill-child --mount-proc -- sh -c \
    'ip link set lo up && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"' sh "$@"
}

# Installs a C compiler and Python's venv if they are missing.
install_compiler() {
  command -v cc >/dev/null || install_packages gcc libc6-dev
  python3 -c 'import ensurepip' 2>/dev/null || install_packages python3-venv
}

# python_tools NAME [PIP-OPTION...]: installs scripts/requirements/NAME.txt into a virtual environment in target/, unless
# it is there, and sets `bin` to the folder of its programs. Needs Python 3.10 or newer with venv.
python_tools() {
  local home=$root/target/python/$1 wanted=$root/scripts/requirements/$1.txt
  bin=$home/bin
  mkdir -p "$root/target/python"
  exec 8>"$home.lock"
  flock 8 # .ci/run installs tools in the background
  if ! cmp --silent "$wanted" "$home/requirements.txt"; then
    python3 -m venv --clear "$home"
    "$bin/pip" install --quiet --disable-pip-version-check "${@:2}" --requirement "$wanted"
    cp "$wanted" "$home/requirements.txt"
  fi
  exec 8>&-
}

# npm_tools NAME PACKAGE@VERSION...: installs the packages into target/, unless they are there, and sets `modules` to the
# folder that has them.
npm_tools() {
  local home=$root/target/npm/$1 packages="${*:2}"
  modules=$home/node_modules
  mkdir -p "$root/target/npm"
  exec 8>"$home.lock"
  flock 8
  if [ "$(cat "$home/packages.txt" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    npm install --silent --no-audit --no-fund --no-save --prefix "$home" "${@:2}"
    echo "$packages" >"$home/packages.txt"
  fi
  exec 8>&-
}

# npm_archive NAME VERSION: downloads the package without its dependencies, unless it is there, and sets `package` to the
# folder that has it.
npm_archive() {
  local home=$root/target/npm/$1-$2 archive
  package=$home/package
  mkdir -p "$home"
  exec 8>"$home.lock"
  flock 8
  if [ ! -e "$home/complete" ]; then
    archive=$(cd "$home" && npm pack --silent "$1@$2")
    tar -xzf "$home/$archive" -C "$home"
    rm "$home/$archive"
    touch "$home/complete"
  fi
  exec 8>&-
}

# cargo_tool NAME VERSION [OPTION...]: compiles the program of a crate into target/, unless it is there, and sets `bin` to
# the folder that has it.
cargo_tool() {
  local home=$root/target/cargo/$1-$2
  bin=$home/bin
  mkdir -p "$root/target/cargo"
  exec 8>"$home.lock"
  flock 8
  # Compiled to be used once or twice.
  [ -x "$bin/$1" ] ||
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 cargo install --quiet --locked --version "$2" --root "$home" "${@:3}" "$1"
  exec 8>&-
}

# --- Servers --------------------------------------------------------------------------------------------------------

accepts_connections() { (exec 7<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# start_server NAME LOG COMMAND...: starts the command with a free port as its last argument, waits until it accepts
# connections, and sets `port`. The port is below the range that the system gives to outgoing connections, because a
# closed connection of an earlier test may still occupy one of those.
start_server() {
  local name=$1 log=$2 attempt tries server
  mkdir -p "$(dirname "$log")"
  for attempt in 1 2 3; do
    port=$((10240 + RANDOM % 20000))
    accepts_connections "$port" && continue
    "${@:3}" "$port" >"$log" 2>&1 &
    server=$!
    for ((tries = 0; tries < 600; tries++)); do
      accepts_connections "$port" && return
      kill -0 "$server" 2>/dev/null || break
      sleep 0.1
    done
    kill "$server" 2>/dev/null || true
  done
  cat "$log" >&2
  fail "$name did not start in $attempt attempts"
}

# Sets SANDBOX_BROKER, the broker's binary, to the one of the profile `dev`, built now, unless it is set.
use_broker() {
  [ -z "${SANDBOX_BROKER:-}" ] || return 0
  cargo build --quiet --locked --manifest-path "$root/Cargo.toml"
  export SANDBOX_BROKER=${CARGO_TARGET_DIR:-$root/target}/debug/sandbox-broker
}

# wait_for PID LOG SED-EXPRESSION: waits until the expression finds something in the log of the process; prints its first
# line.
wait_for() {
  local found tries
  for ((tries = 0; tries < 1800; tries++)); do
    found=$(sed -n "$3" "$2" | head -n 1)
    if [ -n "$found" ]; then
      echo "$found"
      return
    fi
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  cat "$2" >&2
  fail "the process did not start; its log is above"
}

# start_broker FOLDER: starts the broker on a free port with its data and its log in FOLDER; sets `broker` to its process
# and BROKER_URL. Settings in the environment apply. Unless they say otherwise, the store is the embedded engine.
start_broker() {
  : >"$1/broker.log"
  (cd "$1" && exec env HOST=127.0.0.1 PORT=0 DATA_DIR="$1/pool" LOG_FORMAT="${LOG_FORMAT:-json}" \
    LOG_LEVEL="${LOG_LEVEL:-info}" "$SANDBOX_BROKER" serve) >"$1/broker.log" 2>&1 &
  broker=$!
  # The log event, or the banner that LOG_FORMAT=pretty prints at any LOG_LEVEL.
  BROKER_URL=$(wait_for "$broker" "$1/broker.log" \
    's#.*"listening".*"address":"\([^"]*\)".*#http://\1#p; s#^ *API *\(http:[^ ]*\)/v1$#\1#p')
  export BROKER_URL
}

# start_simulator FOLDER [OPTION...]: starts a CSP simulator with its log in FOLDER, and sets CSP_BASE_URL.
start_simulator() {
  : >"$1/simulator.log"
  "$SANDBOX_BROKER" csp-simulator --port 0 "${@:2}" >"$1/simulator.log" 2>&1 &
  local simulator=$!
  CSP_BASE_URL=$(wait_for "$simulator" "$1/simulator.log" 's/.*CSP_BASE_URL=//p')
  export CSP_BASE_URL
}

# --- Steps of .ci/run and scripts/nightly ---------------------------------------------------------------------------

step_title='' step_began=0 step_cpu=0 timings=() beside=()

# cpu_ticks [PID]: the CPU time of the ended children of a process, by default this one, in clock ticks of 10 ms.
cpu_ticks() { awk '{ print $16 + $17 }' "/proc/${1:-$$}/stat"; }

end_step() {
  local cpu
  [ -n "$step_title" ] || return 0
  cpu=$(cpu_ticks)
  timings+=("$(printf '%6d %6d  %s' $((SECONDS - step_began)) $(((cpu - step_cpu) / 100)) "$step_title")")
  step_title=''
}

# step TITLE: begins a step.
step() {
  end_step
  step_title=$* step_began=$SECONDS
  step_cpu=$(cpu_ticks)
  printf '\n=== %s (after %s s)\n' "$*" "$SECONDS"
}

# beside TITLE COMMAND...: runs the command in the background, as a step beside the following ones. join_steps waits for
# all such steps, prints their output and fails if one of them failed.
beside() {
  local log
  mkdir -p "$root/target/log"
  log=$(mktemp "$root/target/log/step-XXXXXX")
  (
    began=$SECONDS self=$BASHPID end=$log.end
    # A shell forgets the status of a process that ended long ago, if a new one gets its id.
    trap 'echo "$? $((SECONDS - began)) $(cpu_ticks "$self")" >"$end"' EXIT
    "${@:2}" &
    command=$!
    # The command is a function in a subshell, so its children have to be ended, too.
    trap 'pkill -TERM -P "$command" 2>/dev/null; kill "$command" 2>/dev/null; exit 143' TERM
    wait "$command"
  ) >"$log" 2>&1 &
  beside+=("$! $log $1")
}

join_steps() {
  local each pid log title status wall cpu failed=
  end_step
  for each in "${beside[@]}"; do
    read -r pid log title <<<"$each"
    printf '\n=== %s (beside others)\n' "$title"
    wait "$pid" 2>/dev/null || true
    cat "$log"
    read -r status wall cpu <"$log.end" || status=1 wall=0 cpu=0
    [ "$status" = 0 ] || failed=$title
    timings+=("$(printf '%6d %6d  %s' "$wall" $((cpu / 100)) "$title (beside others)")")
  done
  beside=()
  [ -z "$failed" ] || step_title=$failed
  [ -z "$failed" ]
}

# Prints the seconds of each step when the script exits, and the name of the step that failed.
report_steps_at_exit() { trap report_steps EXIT; }

report_steps() {
  local status=$?
  clean_up
  [ "$status" = 0 ] || step_title="$step_title: FAILED"
  end_step
  local each pid log title
  for each in ${beside[@]+"${beside[@]}"}; do
    read -r pid log title <<<"$each"
    printf '\n=== %s (ended early)\n' "$title"
    cat "$log"
  done
  printf '\n=== seconds, CPU seconds and title of each step\n'
  printf '%s\n' ${timings[@]+"${timings[@]}"} "$(printf '%6d %6d  in all' "$SECONDS" $(($(cpu_ticks) / 100)))"
}
