#!/usr/bin/env bash
# Installs what a build needs. Run again at will: what is there is left alone.
#
#   scripts/setup.sh [PACKAGE ...]     with these system packages beside those of a build
#
# System packages come through apt where it may be used (root, or sudo without a password);
# otherwise the one line to run is printed. LibTorch comes as the `torch` wheel of PyPI into .deps/
# of this checkout (4.6 GB); set Torch_DIR to the folder of an existing LibTorch's TorchConfig.cmake
# to use that one instead.
. "$(dirname "$0")/common.sh"

TORCH_VERSION=2.11.0
# What the tests compare with; the programs need no Python.
TEST_PACKAGES=(numpy nibabel pillow pydicom tensorboard)

packages=(
  g++ cmake ninja-build git
  libinsighttoolkit5-dev libgdcm-dev libyaml-cpp-dev libspdlog-dev libcli11-dev nlohmann-json3-dev
  zlib1g-dev libdeflate-dev libpng-dev libxxhash-dev libgtest-dev libgmock-dev libbenchmark-dev
  ccache mold "$@"
)

have_package() { dpkg-query -W -f='${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

install_packages() {
  command -v apt-get >/dev/null || {
    echo "This is no Debian or Ubuntu: install the equivalents of ${packages[*]} yourself."
    return 0
  }
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3 python3-venv)
  local missing=()
  for package in "${packages[@]}"; do
    case "$package" in  # a tool may have been installed in another way
      g++ | cmake | git) command -v "$package" >/dev/null && continue ;;
      ninja-build) command -v ninja >/dev/null && continue ;;
    esac
    have_package "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local line="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  local log
  log=$(mktemp)
  if [ "$(id -u)" -eq 0 ]; then
    say "Installing system packages: ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive bash -c "$line" >"$log" 2>&1 || {
      tail -20 "$log" >&2
      die "apt-get failed; its whole output is in $log"
    }
  elif sudo -n true 2>/dev/null; then
    say "Installing system packages with sudo: ${missing[*]}"
    sudo DEBIAN_FRONTEND=noninteractive bash -c "$line" >"$log" 2>&1 || {
      tail -20 "$log" >&2
      die "apt-get failed; its whole output is in $log"
    }
  else
    die "some system packages are missing, and this user may not install them. Run: sudo sh -c '$line'"
  fi
  rm -f "$log"
}

install_python_packages() {
  local wanted=("${TEST_PACKAGES[@]}")
  if [ -z "${Torch_DIR:-}" ]; then
    wanted+=("torch==$TORCH_VERSION")
  elif [ ! -f "$Torch_DIR/TorchConfig.cmake" ]; then
    die "Torch_DIR is $Torch_DIR, but there is no TorchConfig.cmake in it"
  fi
  local venv="$root/.deps/venv"
  # Written last: an interrupted installation is taken up again.
  local stamp="$venv/.installed"
  [ "$(cat "$stamp" 2>/dev/null)" = "${wanted[*]}" ] && return 0
  say "Installing ${wanted[*]} into .deps/ (LibTorch with its CUDA libraries takes 4.6 GB)"
  mkdir -p "$root/.deps"
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "${wanted[@]}" ||
    die "pip could not install ${wanted[*]}; run the script again to retry"
  echo "${wanted[*]}" >"$stamp"
}

command -v python3 >/dev/null || packages+=(python3 python3-venv)
install_packages
install_python_packages
