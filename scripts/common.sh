# Shared by the scripts: where things are, and how they speak. Sourced, not run.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
build="$root/build"

say() { printf '\n\033[1m== %s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi; }
# The comment at the head of the script.
print_help() { sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# Jobs for a build: LibTorch's headers take up to 2 GB a compiler.
build_jobs() {
  local cores memory_gb
  cores=$(nproc 2>/dev/null || echo 2)
  memory_gb=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo 2>/dev/null || echo 4)
  local fitting=$((memory_gb / 2))
  [ "$fitting" -lt 1 ] && fitting=1
  [ "$cores" -lt "$fitting" ] && echo "$cores" || echo "$fitting"
}

case "${1:-}" in -h | --help) print_help; exit ;; esac
