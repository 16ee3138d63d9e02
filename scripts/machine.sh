# shellcheck shell=bash
# What quickstart, test and install need of a machine: packages, an engine, a virtual environment. Sourced, never run.
#
# Each function is harmless to repeat and finds out by itself whether there is something to do. `step` runs one of
# them, keeps what it prints in a log, and says in one line what it was and how long it took; where it fails, the
# end of that log is shown. A function may leave a remark for that line in `note`.

set -Eeuo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # where Debian puts haproxy, dockerd and iptables

engine_socket=/var/run/docker.sock
docker_pidfile=/var/run/docker.pid
engine_patience=150 # seconds; a dockerd with hundreds of networks needs over a minute for its first answer
step_log=/dev/null
step_now=""
note=""
exec {terminal}>&2 # The trap below may run while a step's output is still redirected.

begin_log() { # FILE: keep what the steps print there
  step_log=$1
  mkdir -p "$(dirname "$step_log")"
  : >"$step_log"
  trap 'report_failure $?' EXIT
}

step() { # WORDS COMMAND …: run the command, say what it was and how long it took
  step_now=$1
  note=""
  shift
  local started=$EPOCHREALTIME
  "$@" >>"$step_log" 2>&1
  say "$step_now${note:+: $note}" "$started"
  step_now=""
}

say() { # WORDS STARTED: one line with the seconds since then
  LC_ALL=C awk -v words="$1" -v from="${2/,/.}" -v to="${EPOCHREALTIME/,/.}" \
    'BEGIN { printf "-----> %s (%.1f s)\n", words, to - from }'
}

report_failure() { # STATUS, from the EXIT trap
  [[ $1 -ne 0 && -n $step_now ]] || return 0
  {
    printf ' !     This step failed: %s\n       The last lines of %s:\n' "$step_now" "$step_log"
    tail -n 25 "$step_log" | sed 's/^/       /'
  } >&"$terminal"
}

refuse() { # MESSAGE [HINT]: say what is wrong and what to do, and end
  step_now=""
  {
    printf ' !     %s\n' "$1"
    [[ -z ${2:-} ]] || printf '       %s\n' "$2"
  } >&"$terminal"
  exit 1
}

is_root() { [[ $EUID -eq 0 ]]; }

has_systemd() { [[ -d /run/systemd/system ]]; } # sd_booted(3)

need_packages() { # PROGRAM:PACKAGE …: install what is missing, from Debian
  local pair missing=()
  for pair in "$@"; do
    has_program "${pair%%:*}" || missing+=("${pair#*:}")
  done
  note="all there"
  [[ ${#missing[@]} -gt 0 ]] || return 0
  install_packages "${missing[@]}"
  note="installed ${missing[*]}"
}

has_program() { # PROGRAM, or ensurepip: Debian splits it from python3
  if [[ $1 == ensurepip ]]; then
    command -v python3 >/dev/null && python3 -c 'import ensurepip, venv'
  else
    command -v "$1" >/dev/null
  fi
}

install_packages() {
  is_root || refuse "Missing on this machine: $*." "Run this as root, or install them: apt-get install $*"
  command -v apt-get >/dev/null || refuse "Missing on this machine: $*." "There is no apt-get here; install them by hand."
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -o DPkg::Lock::Timeout=120)
  # The lists of a fresh machine are empty or old; fetch them only when that shows.
  "${apt[@]}" install --no-install-recommends "$@" || {
    "${apt[@]}" update
    "${apt[@]}" install --no-install-recommends "$@"
  }
}

engine_answers() {
  curl --fail --silent --max-time 5 --unix-socket "$engine_socket" http://engine/_ping
}

need_engine() { # FOLDER: make Docker answer. Where it has to be started by hand, its log and pid go to FOLDER
  local folder=$1
  if engine_answers; then
    note="answers"
    return
  fi
  # Only now: Debian's docker.io would displace an engine from Docker's own repository.
  command -v dockerd >/dev/null || install_packages docker.io iptables
  if has_systemd; then
    systemctl start docker
    note="started docker.service"
  elif pgrep -x dockerd >/dev/null; then
    note="was still starting"
  else
    start_dockerd "$folder"
  fi
  wait_for_engine "$folder"
}

start_dockerd() { # FOLDER: in a session of its own, so that it outlives this script
  is_root || refuse "No Docker engine answers." "Start it, or run this as root."
  mkdir -p "$1"
  forget_stale_pidfile "$docker_pidfile"
  setsid dockerd >"$1/dockerd.log" 2>&1 </dev/null {terminal}>&- &
  local pid=$!
  echo "$pid $(start_time "$pid")" >"$1/dockerd.process"
  note="started dockerd, pid $pid"
}

forget_stale_pidfile() { # FILE: dockerd refuses to start while the pid in it exists, be it a zombie or a stranger
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  if [[ $(cat "/proc/$pid/comm" 2>/dev/null) != dockerd || $(process_state "$pid") == Z ]]; then
    rm -f "$1"
  fi
}

wait_for_engine() {
  local deadline=$((SECONDS + engine_patience))
  until engine_answers; do
    if ((SECONDS > deadline)); then
      [[ ! -f $1/dockerd.log ]] || tail -n 20 "$1/dockerd.log"
      return 1
    fi
    sleep 0.2
  done
}

# A process is known by its pid and its start time: pids are given again, and where process 1 reaps nobody,
# `kill -0` finds the dead alive. The command's name (field 2) may hold spaces, so cut after its parenthesis.
stat_fields() { # PID: state is field 1, start time field 20
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  echo "${stat##*) }"
}

process_state() { stat_fields "$1" | cut -d ' ' -f 1; }

start_time() { stat_fields "$1" | cut -d ' ' -f 20; }

need_venv() { # FOLDER PINS: a virtual environment with the pinned packages and this source tree
  local folder=$1 pins=$2 wanted
  wanted=$(cat "$pins" pyproject.toml | sha256sum | cut -d ' ' -f 1)-$PWD
  note="up to date"
  [[ $(cat "$folder/.made-from" 2>/dev/null) != "$wanted" ]] || return 0
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "Python 3.11 or newer is needed, and this is $(python3 -V)." "Debian 12 has it."
  [[ -x $folder/bin/pip ]] || python3 -m venv "$folder"
  "$folder/bin/pip" install --disable-pip-version-check --quiet --require-hashes --requirement "$pins"
  # "compat": a plain path. The default is a finder that imports a lot, which the client would pay for at each start.
  "$folder/bin/pip" install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
    --config-settings editable_mode=compat --editable .
  echo "$wanted" >"$folder/.made-from"
  note="made $folder"
}
