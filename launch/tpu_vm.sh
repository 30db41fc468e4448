#!/usr/bin/env bash
# A TPU slice by queued resource: rent it, install, run, read along, give back.
set -euo pipefail

usage() {
  cat <<'TEXT'
launch/tpu_vm.sh COMMAND --name=NAME --zone=ZONE [OPTIONS] [-- ARGUMENTS]

  create   asks for the slice and waits until it is there
  setup    copies this code to every worker, installs it, mounts the bucket
  run      python -m rlhfv_jax.main ARGUMENTS on every worker; waits for its
           end. A preempted slice is asked for again, and the run goes on
  logs     what process 0 prints, from the beginning and along with it
  stop     SIGTERM: a checkpoint, then the end; `run` goes on from it
  status   what the slice is doing
  delete   gives it back; nothing is paid for after that

  --type=v5litepod-16     accelerator: v4-32, v5litepod-64, v5p-128, v6e-16 ...
  --bucket=NAME           Cloud Storage bucket that workers see as ~/runs; a
                          slice of several hosts needs one
  --project=ID            another project than gcloud's own
  --version=RUNTIME       another runtime than the one that fits the type
  --on-demand             not spot: dearer, and not taken away
  --internal-ip           reach the workers from inside the network
  --worker=N              whose log to read (0)
  --retries=N             calls, and preemptions, in a row (5)
  --poll=SECONDS          how often to look (30)
  --dry-run               print every command and run none

  launch/tpu_vm.sh create --name=mine --zone=us-west4-a --type=v5litepod-16
  launch/tpu_vm.sh setup  --name=mine --zone=us-west4-a --bucket=my-runs
  launch/tpu_vm.sh run    --name=mine --zone=us-west4-a --bucket=my-runs -- \
    --config=configs/ddpo.py:rlhfv_13b --workdir=../runs/first ...
TEXT
}

fail() {
  echo "tpu_vm.sh: $*" >&2
  exit 1
}

command=${1:---help}
case $command in
  create | setup | run | logs | stop | status | delete) shift ;;
  -h | --help | help)
    usage
    exit 0
    ;;
  *) fail "no command $command: create, setup, run, logs, stop, status, delete" ;;
esac

name='' zone='' type=v5litepod-16 bucket='' project='' version=''
spot=yes internal='' worker=0 retries=5 poll=30 dry=''
arguments=()
while (($#)); do
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --bucket=*) bucket=${1#*=} ;;
    --project=*) project=${1#*=} ;;
    --version=*) version=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --retries=*) retries=${1#*=} ;;
    --poll=*) poll=${1#*=} ;;
    --on-demand) spot='' ;;
    --internal-ip) internal=yes ;;
    --dry-run) dry=yes ;;
    --)
      shift
      arguments=("$@")
      break
      ;;
    -h | --help)
      usage
      exit 0
      ;;
    *) fail "no option $1 (what main takes stands behind --)" ;;
  esac
  shift
done
[[ $name ]] || fail 'say which slice: --name=NAME'
[[ $zone ]] || fail 'say where: --zone=ZONE'
[[ $command != run || ${#arguments[@]} -gt 0 ]] ||
  fail 'say what to run: -- --config=configs/ddpo.py:rlhfv_13b ...'

case $type in
  v4-*) runtime=tpu-ubuntu2204-base ;;
  v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
  v5p-*) runtime=v2-alpha-tpuv5 ;;
  v6e-*) runtime=v2-alpha-tpuv6e ;;
  *) fail "--type=$type: begin it with v4-, v5litepod-, v5p- or v6e-" ;;
esac
where=("--zone=$zone")
[[ -z $project ]] || where+=("--project=$project")
inside=()
[[ -z $internal ]] || inside=(--internal-ip)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
far=rlhfv_jax/launch/tpu_worker.sh # this code, as it lies on a worker

# Runs a command, or prints it.
exec 3>&1
call() {
  if [[ $dry ]]; then
    (printf '%q ' "$@" && echo) >&3
  else
    "$@"
  fi
}

queued() { call gcloud compute tpus queued-resources "$@" "${where[@]}"; }

# A shell line on a worker, or on all of them.
on() {
  call gcloud compute tpus tpu-vm ssh "$name" "--worker=$1" "--command=$2" \
    "${inside[@]}" "${where[@]}"
}

# The same command again after a while, as often as --retries says.
again() {
  local attempt
  for ((attempt = 1; ; attempt++)); do
    "$@" && return
    ((attempt < retries)) || fail "given up after $attempt attempts: ${*:2}"
    echo "attempt $attempt failed, again in $poll s" >&2
    sleep "$poll"
  done
}

# Its state, NONE where there is no such slice, or nothing: it cannot be told.
state() {
  if [[ $dry ]]; then
    queued describe "$name" '--format=value(state.state)'
    echo "${1:-ACTIVE}" # what would have to be seen to go on
    return
  fi
  local said
  if said=$(queued describe "$name" '--format=value(state.state)' 2>&1); then
    echo "${said##*$'\n'}"
  elif [[ $said == *NOT_FOUND* || $said == *'not found'* ]]; then
    echo NONE
  else
    echo "$said" >&2
  fi
}

ask() {
  local said options=()
  [[ -z $spot ]] || options=(--spot)
  if said=$(queued create "$name" "--node-id=$name" \
    "--accelerator-type=$type" "--runtime-version=${version:-$runtime}" \
    "${options[@]}" 2>&1); then
    [[ -z $said ]] || echo "$said"
  elif [[ $said == *ALREADY_EXISTS* || $said == *'already exists'* ]]; then
    echo "$name was asked for before"
  else
    echo "$said" >&2
    case $said in
      *PERMISSION_DENIED* | *INVALID_ARGUMENT* | *UNAUTHENTICATED* | *uota*)
        fail "$name cannot be had: see above; asking again does not mend it"
        ;;
    esac
    return 1
  fi
}

release() { queued delete "$name" --force --quiet; }

create() {
  local seen now=''
  seen=$(state NONE)
  while true; do
    [[ $seen == "$now" ]] || echo "$name: ${seen:-not to be reached}"
    now=$seen
    case $seen in
      ACTIVE) return ;;
      NONE) again ask ;;
      SUSPENDED | FAILED) again release ;; # preempted, or never there
    esac
    [[ $dry ]] || sleep "$poll"
    seen=$(state)
  done
}

setup() {
  local tar
  tar=$(mktemp -d)/rlhfv_jax.tgz
  call tar -czf "$tar" -C "$root" setup.py README.md rlhfv_jax configs launch
  again call gcloud compute tpus tpu-vm scp "$tar" "$name:" --worker=all \
    "${inside[@]}" "${where[@]}"
  again on all 'mkdir -p rlhfv_jax && tar -xzf rlhfv_jax.tgz -C rlhfv_jax'
  again on all "bash $far setup $(printf %q "$bucket")"
  rm -rf "$(dirname "$tar")"
}

run() {
  local line seen ended taken=0 missed=0
  line=$(printf '%q ' "${arguments[@]}")
  again on all "bash $far start ${line% }"
  while true; do
    if ended=$(on 0 "bash $far ended"); then
      [[ ! $dry ]] || return 0
      missed=0
      if [[ $ended ]]; then
        on 0 'tail -n 20 rlhfv.log'
        [[ $ended == 0 ]] || fail "the run ended with $ended: see logs"
        return
      fi
    else
      seen=$(state)
      if [[ $seen =~ ^(SUSPENDING|SUSPENDED|FAILED|NONE)$ ]]; then
        ((++taken <= retries)) || fail "$name was taken away $taken times"
        echo "$name was taken away: asking for it again" >&2
        create
        setup
        again on all "bash $far start ${line% }"
      elif [[ $seen == ACTIVE ]] && ((++missed % retries == 0)); then
        # A machine that came back without its run. Who runs goes on running.
        again on all "bash $far start ${line% }"
      fi
    fi
    sleep "$poll"
  done
}

case $command in
  create | setup | run) "$command" ;;
  logs) on "$worker" 'tail -n +1 -F rlhfv.log' ;;
  stop) on all "bash $far stop" ;;
  status) queued describe "$name" ;;
  delete)
    if [[ $(state ACTIVE) == NONE ]]; then
      echo "$name is gone already"
    else
      again release
    fi
    ;;
esac
