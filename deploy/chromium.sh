#!/usr/bin/env bash
# The browser that the tests of the pages drive: the distribution's where it has one, else Playwright's own.
set -euo pipefail
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  if apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; then
    exit 0
  fi
fi
.venv/bin/playwright install --with-deps chromium ||
  echo "No Chromium: the browser tests will be skipped, and fail in CI. Install the package 'chromium'." >&2
