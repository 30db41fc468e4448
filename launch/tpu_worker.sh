#!/usr/bin/env bash
# What launch/tpu_vm.sh does on a worker: setup [BUCKET], start ARGUMENTS,
# ended, stop. The code lies in ~/rlhfv_jax, the bucket in ~/runs.
set -euo pipefail
cd "$HOME"

setup() {
  # The image's own Python is older than what JAX wants.
  command -v uv >/dev/null || export PATH=$HOME/.local/bin:$PATH
  command -v uv >/dev/null ||
    curl -LsSf https://astral.sh/uv/install.sh | sh
  cd rlhfv_jax
  [[ -d .venv ]] || uv venv --python 3.12 .venv
  uv pip install --python .venv/bin/python -e '.[tpu,buckets]'
  cd ..
  [[ -z ${1:-} ]] || mount_bucket "$1"
}

mount_bucket() {
  local key=/usr/share/keyrings/cloud.google.asc
  local packages=https://packages.cloud.google.com/apt
  if ! command -v gcsfuse >/dev/null; then
    echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" |
      sudo tee /etc/apt/sources.list.d/gcsfuse.list
    curl -fsS "$packages/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
    sudo apt-get update
    sudo apt-get install -y gcsfuse
  fi
  mkdir -p runs
  # What one worker has written, the others see at once.
  mountpoint -q runs ||
    gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "$1" runs
}

alive() { [[ -f rlhfv.pid ]] && kill -0 "$(cat rlhfv.pid)" 2>/dev/null; }

start() {
  if alive; then
    echo "$(hostname): runs already: stop it first" >&2
    return
  fi
  rm -f rlhfv.ended
  cd rlhfv_jax
  # Its own session: it outlives the connection that starts it.
  # shellcheck disable=SC2016 # expanded by the inner shell
  RLHFV_DISTRIBUTED=1 setsid nohup bash -c '
    .venv/bin/python -m rlhfv_jax.main "$@" & echo $! > ../rlhfv.pid
    wait $! && code=0 || code=$?
    echo $code > ../rlhfv.ended
  ' run "$@" >>../rlhfv.log 2>&1 </dev/null &
}

# How it ended; nothing while it runs. One that vanished (the machine started
# anew) is one that can go on.
ended() {
  if [[ -f rlhfv.ended ]]; then
    cat rlhfv.ended
  elif ! alive; then
    echo "$(hostname): no run here" >&2
    return 1
  fi
}

stop() { ! alive || kill -TERM "$(cat rlhfv.pid)"; }

"$@"
