#!/usr/bin/env bash
# A browser for tests/browsing.py: Chromium and its driver from the
# system's packages (as root, or by sudo), and axe-core from npm, which goes into
# node_modules. Selenium comes with `pip install -e '.[test]'`.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=()
command -v chromium >/dev/null && command -v chromedriver >/dev/null ||
  wanted+=(chromium chromium-driver)
command -v npm >/dev/null || wanted+=(npm)
if [ ${#wanted[@]} -gt 0 ]; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq --no-install-recommends "${wanted[@]}"
fi
npm install --silent --no-save --no-audit --no-fund axe-core
