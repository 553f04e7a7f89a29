#!/usr/bin/env bash
# Builds a release and packs it: build/packages/segmamba-VERSION-linux-x86_64-VARIANT.tar.gz with all
# that the programs need but glibc, and -VARIANT-devel.tar.gz for C++ projects on top of it.
#
#   scripts/package.sh cpu     for any x86-64 processor; LibTorch's CPU part only
#   scripts/package.sh cuda    for NVIDIA GPUs too: every architecture of a release, CUDA's libraries
#
# PACKAGE_FORMAT=TZST packs with zstd: smaller, several times faster, and unpacked only where zstd is.
. "$(dirname "$0")/common.sh"

case "${1:-}" in
  cpu) preset=cpu-only ;;
  cuda) preset=cuda ;;
  *) die "expected cpu or cuda; see --help" ;;
esac

"$root/scripts/setup.sh"
cd "$root"
folder="build/release-$preset"
say "Building the programs of preset $preset in $folder"
without_root="-ffile-prefix-map=\"$root\"=."  # LibTorch's checks name the files that they stand in
flags=("-DCMAKE_CXX_FLAGS=$without_root")
[ "$preset" = cuda ] && flags+=("-DCMAKE_CUDA_FLAGS=-Xcompiler=$without_root")
cmake --preset "$preset" -B "$folder" -DSEGMAMBA_BUILD_TESTS=OFF "${flags[@]}" >/dev/null ||
  die "CMake could not configure the build"
cmake --build "$folder" --parallel "$(build_jobs)" --target programs

say "Packing"
packages="$build/packages" staging="$build/packages/_CPack_Packages"
rm -rf "$staging"
cpack --config "$folder/CPackConfig.cmake" -G "${PACKAGE_FORMAT:-TGZ}" -B "$packages"
left=$(grep -rlF "$root/" "$staging" || true)
rm -rf "$staging"
[ -z "$left" ] || die "what was packed names $root: $left"

say "Trying it in a root with nothing but glibc"
tarball=$(ls -t "$packages"/segmamba-*.tar.* | grep -v -e -devel | head -1)
status=0
"$root/tests/package/tarball_test.sh" "$tarball" "$packages/try" || status=$?
rm -rf "$packages/try"
[ "$status" -eq 0 ] || [ "$status" -eq 77 ] || die "$tarball does not run"
ls -lh "$packages"
